"""Studies: arms that differ in a few fields, each trained at several rates and seeds, and what that comes to."""
