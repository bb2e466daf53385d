"""The entry points beside `genbench` itself: thin, they read words and call what does the work."""
