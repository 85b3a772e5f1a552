"""Drop-ins for functions of other packages: same names, arguments and meaning, fastent's numbers.

`fastent.compat.scipy`, `fastent.compat.sklearn` and `fastent.compat.torch`; each needs the package
that it stands in for.
"""
