// Typeset what pymdownx.arithmatex marks: \(…\) within text, \[…\] by itself. What KaTeX does not know stays as it is written, in red.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const written = element.textContent.trim();
    try {
      katex.render(written.slice(2, -2), element, { displayMode: written.startsWith("\\[") });
    } catch (error) {
      element.classList.add("katex-error");
      element.title = error.message;
    }
  }
});
