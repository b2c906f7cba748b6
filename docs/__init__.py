"""The pages of the site, and what makes it of them."""
