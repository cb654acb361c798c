"""The files of a SQLite store on the disk: opened, locked, checked after a crash, migrated."""
