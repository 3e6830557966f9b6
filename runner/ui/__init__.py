"""The screens, one file each; they print what other rooms have worked out."""
