"""NumPy ufuncs entr, rel_entr and kl_div."""
