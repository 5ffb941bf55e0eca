"""Points to tables and one page, in every form they are written in."""
