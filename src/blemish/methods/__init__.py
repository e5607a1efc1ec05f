"""The methods that `blemish train --method NAME` knows, a file each."""
