"""The TaskQueue manifest as frozen, validated values, for the operator and `stoker up`.

The rules and defaults are those of the CRD (charts/stoker/files/crd.yaml), which rejects most mistakes at admission; a test
compares the two.
"""
