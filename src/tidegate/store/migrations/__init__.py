"""The steps from an empty database to the present tables.

To change the schema: change ``tables.py``, add ``versions/NNNN_what_changes.py`` in the shape of its predecessor (on
SQLite an altered table is rebuilt: use ``op.batch_alter_table``), and set ``schema.REVISION`` to it. A step is never
changed once released. The test that compares the migrated schema with ``tables.py`` says when the two differ.
"""
