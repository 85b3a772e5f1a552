"""Drop-ins for functions of other packages: same names, arguments and meaning, fastent's numbers.

`fastent.compat.scipy`, `fastent.compat.sklearn`; each needs the package it stands in for.
"""
