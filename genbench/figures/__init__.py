"""One function per picture: data in, matplotlib Figure out."""
