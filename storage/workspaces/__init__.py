"""Files of conversations' workspaces while no runtime holds them. Imported where they are opened and kept."""
