"""One HTML file that says what a run built, how it learned and what it cost. See page.py and plot.py."""
