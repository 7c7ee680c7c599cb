"""From a dataset as downloaded and unpacked to the sequences that training reads."""
