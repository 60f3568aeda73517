"""The paper's evidence, from data to figure: records of runs, and what is made of them."""
