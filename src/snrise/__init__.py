"""Pixel-space image diffusion at high resolution: the noise schedule follows the resolution.

The mathematics is in `process`, `schedules`, `pooling`, `weightings`, `levels`, `losses`, `denoisers`, `samplers` and
`diagnostics`; a run is in `data`, `networks`, `training`, `config` and `build`; pictures are in `plots`.
"""
