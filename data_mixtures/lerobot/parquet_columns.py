"""Numeric columns between arrays [n, dim] and the three list types found in published parquet files."""

import numpy as np
import pyarrow as pa


def column_values(column: pa.ChunkedArray) -> np.ndarray:
    """A numeric column as an array [n] or [n, dim]; lists may be of fixed size or merely all equally long."""
    if not pa.types.is_nested(column.type):
        return column.to_numpy()
    flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks], type=column.type.value_type)
    return flat.to_numpy().reshape(len(column), -1)


def column_of(values: np.ndarray) -> pa.Array:
    """Values [n, dim] as LeRobot writes them: a scalar column when dim is 1, else lists of fixed size."""
    flat = pa.array(np.ascontiguousarray(values).ravel())
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
