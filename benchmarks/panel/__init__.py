"""The panel: methods x sets x seeds under several protocols, one CSV row a run, and the tables of docs/results.md.

`__main__` has the options; a file each for the features that the peers see, the peers, the methods, the
protocols, what is measured, the runs in processes of their own, the CSV, the tables, and research variants on cached
features.
"""
