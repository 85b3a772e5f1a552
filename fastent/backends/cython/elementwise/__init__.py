"""NumPy ufuncs entr, rel_entr and kl_div.

May import: arithmetic, levels, threads.
"""
