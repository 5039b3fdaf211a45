"""The error tree of the whole service.

Every failure that a person can meet is one of these, so that one table can map it to HTTP and
to a job's failure. The tree::

    ClServeError
    ├── InputError                    what was sent can't be used; sending it again won't help
    │   ├── EmptyInputError
    │   ├── UnsupportedMediaError     not a format that the capability reads
    │   ├── CorruptMediaError         right format, broken or truncated content
    │   ├── TooLargeError             more bytes or pixels than the configured limit
    │   ├── StalledUploadError        the client stopped sending in the middle
    │   ├── InvalidParameterError
    │   ├── UnknownOutputError
    │   ├── ForbiddenPathError        a path outside of the folders that the YAML allows
    │   ├── PathNotFoundError         nothing is at a path, or no longer
    │   ├── UnknownJobError           no job has that id, or it was removed
    │   └── JobStateError             a job is not in a state in which that can be done
    ├── ConfigError                   the YAML is wrong: key, value and what was expected
    ├── ModelError
    │   ├── UnknownModelError         not in the catalogue
    │   ├── ModelNotInstalledError    in the catalogue, not on this machine
    │   ├── ModelIntegrityError       the bytes are not the ones that the catalogue names
    │   ├── ModelNotValidatedError    a variant that agrees too little with the model itself
    │   ├── ModelLicenceError         the licence asks for a decision that was not given
    │   ├── ModelDownloadError        every source failed
    │   ├── ModelConversionError      a conversion step failed or gave another result
    │   └── OfflineError              the network is needed and switched off
    ├── ToolError
    │   ├── ToolNotInstalledError     a program that a capability runs is not on this machine
    │   └── ToolFailedError           it died, hung or failed; trying again can help
    ├── NodeError                     the graph can't answer just now; trying again can help
    │   ├── OverloadedError
    │   ├── DeadlineExceededError
    │   ├── CancelledRequestError     whoever asked no longer wants the answer
    │   ├── NodeUnavailableError
    │   ├── StorageFullError          a disk, or what jobs may take of it, has no room
    │   └── DependencyFailedError     a node that this one needs has failed
    └── StackError                    the Ray stack could not be started, reached or stopped

Each takes its message as the one positional argument, which is what survives pickling through
a Serve handle.
"""


class ClServeError(Exception):
    """Base of all errors raised on purpose. ``str(error)`` is fit to be shown to a person."""


class InputError(ClServeError):
    """What was sent can't be used; sending the same again will fail again."""


class EmptyInputError(InputError):
    """No bytes were sent."""


class UnsupportedMediaError(InputError):
    """The content is not of a format that the capability reads."""


class CorruptMediaError(InputError):
    """The format is right and the content is broken, truncated for example."""


class TooLargeError(InputError):
    """More bytes or pixels than the configured limit."""


class StalledUploadError(InputError):
    """The client stopped sending in the middle, and may be gone without a word."""


class InvalidParameterError(InputError):
    """A request parameter is unknown or outside its range."""


class UnknownOutputError(InputError):
    """A requested output is not a node of the graph."""


class ForbiddenPathError(InputError):
    """A path is outside of the folders that the YAML allows."""


class PathNotFoundError(InputError):
    """Nothing is at a path, or no longer."""


class UnknownJobError(InputError):
    """No job has that id, or it was removed."""


class JobStateError(InputError):
    """A job is not in a state in which that can be done; the message names the state."""


class ConfigError(ClServeError):
    """A configuration value is wrong; the message names key, value and what was expected."""


class ModelError(ClServeError):
    """Something about a model, its files or its licence."""


class UnknownModelError(ModelError):
    """The name is not in the model catalogue."""


class ModelNotInstalledError(ModelError):
    """The model is in the catalogue and not on this machine; names the installing command."""


class ModelIntegrityError(ModelError):
    """A file's sha256 is not the one that the catalogue names."""


class ModelNotValidatedError(ModelError):
    """A variant of a model agrees too little with the model itself to be served."""


class ModelLicenceError(ModelError):
    """The model's licence needs the user's consent, which was not given."""


class ModelDownloadError(ModelError):
    """Every source of a model failed; names each source and its reason."""


class ModelConversionError(ModelError):
    """A conversion step failed, or its output is not the recorded one."""


class OfflineError(ModelError):
    """The network would be needed and the offline switch is on."""


class ToolError(ClServeError):
    """Something about a program that a capability runs, such as ExifTool or FFmpeg."""


class ToolNotInstalledError(ToolError):
    """The program is not on this machine; names the installing command."""


class ToolFailedError(ToolError):
    """The program died, hung or failed on good input; trying again can help."""


class NodeError(ClServeError):
    """The graph can't answer just now; the same request may succeed later."""


class OverloadedError(NodeError):
    """Too many requests are waiting already."""


class DeadlineExceededError(NodeError):
    """The request took longer than its time limit."""


class CancelledRequestError(NodeError):
    """Whoever asked no longer wants the answer."""


class NodeUnavailableError(NodeError):
    """No replica of a node could answer."""


class StorageFullError(NodeError):
    """A disk has no room, or jobs take all that the YAML allows them."""


class DependencyFailedError(NodeError):
    """A node that this one needs has failed."""


class StackError(ClServeError):
    """The Ray stack could not be started, reached or stopped."""
