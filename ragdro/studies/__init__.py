"""Studies: the paper's analyses, a command each. A study is variants × seeds of ordinary runs and what is
made of them; `catalogue.py` has them all."""
