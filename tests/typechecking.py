"""The runtime check of shapes and types that the tests turn on for the whole package."""

from beartype import BeartypeConf, beartype

#: An int is a float, as in the type checker's eyes (PEP 484).
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
