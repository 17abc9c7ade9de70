"""Structures that MATLAB saved: the authors' dataList.mat and pairs.mat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spherecv.errors import DatasetError


def read_structure(
    file: Path, name: str, fields: Sequence[str], optional: Sequence[str] = ()
) -> list[Mapping[str, Any]]:
    """Read an array of structures from a MATLAB file.

    Parameters
    ----------
    file : Path
        Of MATLAB 5 to 7.2 form.
    name : str
        The variable.
    fields, optional : sequence of str
        Members to read; the optional ones only where they are.

    Returns
    -------
    list of mapping
        One for each structure.

    Raises
    ------
    DatasetError
        Not such a file, or no such variable or members.
    """
    from scipy.io import loadmat

    try:
        table = loadmat(str(file), variable_names=[name], squeeze_me=True, struct_as_record=True)
    except NotImplementedError:
        raise DatasetError(f"{file} is of MATLAB's form 7.3: save it with '-v7'") from None
    except Exception as error:  # SciPy raises whatever its parser meets: ValueError, TypeError, OSError, struct.error
        raise DatasetError(f"{file} cannot be read as a MATLAB file: {error}") from None
    if name not in table:
        raise DatasetError(f"{file} holds no variable {name}")
    array = table[name].reshape(-1)
    members = array.dtype.names or ()
    missing = [field for field in fields if field not in members]
    if missing:
        raise DatasetError(f"{file}: the structure {name} has no {', '.join(missing)}")
    kept = [field for field in (*fields, *optional) if field in members]
    return [{field: entry[field] for field in kept} for entry in array]
