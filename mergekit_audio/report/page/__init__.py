"""The sections of the HTML report, and what they are drawn and written with."""
