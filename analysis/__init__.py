"""Analysis: outcomes -> effects -> tests -> tables, figures, report. Never imports torch or another room."""
