"""An HTTP service that embeds and compares walks, and identifies and enrols people of one gallery."""
