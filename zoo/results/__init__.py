"""The zoo's own published numbers, one JSON file per data set, and the tables of the README that are made from them."""
