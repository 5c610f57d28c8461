"""Applications that are ready to run: a TaskQueue names one of them, and needs no image of its own."""
