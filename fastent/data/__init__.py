"""Data of the demo; scripts/make_demo_data.py makes it."""
