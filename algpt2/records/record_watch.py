"""Whether shards still are what they were when they were checked."""

from absl import logging

from algpt2.records.record_set import RecordSet, require_checksum, require_size
from algpt2.storage.versions import versions_of

PATIENCE_SECONDS = 10.0


class RecordWatch:
    """Compares a record set's shards with the versions that were checked, which reads no shard as long as all is well.

    A record set that was opened without a check of its content has no versions, and nothing is compared.
    """

    def __init__(self, record_set: RecordSet):
        """Takes the record set as it was opened."""
        self._record_set = record_set
        self._versions = record_set.versions
        self._epoch: int | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Compares if this is another epoch than at the last call; see `require_unchanged`."""
        if epoch != self._epoch:
            self.require_unchanged()
            self._epoch = epoch

    def require_unchanged(self) -> None:
        """Checks every shard anew that has another version; the same content in another file will do.

        While the storage does not answer, there is only a warning: a run must not end because of a comparison.

        Raises:
          UserError: a shard is missing or has another content.
        """
        if not self._versions:
            return
        files = self._record_set.files
        try:
            versions = versions_of(files, PATIENCE_SECONDS)
        except Exception as hindrance:  # Whatever the storage raises, reading the records will show it if it lasts.
            logging.warning("shards could not be compared with those that were checked (%r)", hindrance)
            return
        for file, shard, now, before in zip(files, self._record_set.shards, versions, self._versions, strict=True):
            if now != before:
                require_size(file, shard)
                require_checksum(file, shard)
                logging.info("%s was written anew, with the same content", file)
        self._versions = versions
