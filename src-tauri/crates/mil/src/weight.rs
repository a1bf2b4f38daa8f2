//! Weights that stay in their file: constants, and the `constexpr_*` operations that expand compressed ones. They are read by
//! rows (indices of the first dimension), a few at a time, so that no matrix is ever in memory as a whole unless an operation
//! needs it so.

use std::sync::Arc;

use crate::blob::{Blob, unpack};
use crate::element::{Class, ElementType};
use crate::tensor::{Data, Tensor, count_of, round};

/// A tensor that is read by rows.
#[derive(Debug)]
pub(crate) struct Weight {
    dtype: ElementType,
    shape: Vec<usize>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Plain(Source),
    /// `scale * (data - zero_point)`, the two of them one number or one for each index of `axis`.
    Affine {
        data: Source,
        zero_point: Tensor,
        scale: Tensor,
        axis: usize,
    },
    /// Indices of less than a byte in a stream of bytes; one table.
    PackedTable {
        indices: Source,
        index: ElementType,
        table: Vec<f32>,
    },
    /// A table for each group of indices; each entry is a vector along `axis`.
    Table {
        indices: Source,
        table: Source,
        axis: usize,
    },
    /// `scale * (data - offset)`, one of both for each block.
    Blockwise {
        data: Source,
        scale: Source,
        offset: Option<Source>,
    },
}

/// Where numbers come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A weight file.
    Blob(Blob, Vec<usize>),
    /// The program itself.
    Tensor(Tensor),
    /// Another weight.
    Weight(Arc<Weight>),
}

impl Source {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Blob(_, shape) => shape,
            Self::Tensor(tensor) => tensor.shape(),
            Self::Weight(weight) => &weight.shape,
        }
    }

    pub(crate) fn dtype(&self) -> ElementType {
        match self {
            Self::Blob(blob, _) => blob.dtype(),
            Self::Tensor(tensor) => tensor.dtype(),
            Self::Weight(weight) => weight.dtype,
        }
    }

    /// `out.len()` numbers from the row `first` on.
    fn rows(&self, first: usize, out: &mut [f32]) -> Result<(), String> {
        match self {
            Self::Blob(blob, shape) => blob.floats(first * row_width(shape), out),
            Self::Weight(weight) => weight.read(first, out, false),
            Self::Tensor(tensor) => {
                let start = first * row_width(tensor.shape());
                let range = start..start + out.len();
                match tensor.data() {
                    Data::Floats(values) => out.copy_from_slice(&values[range]),
                    Data::Ints(values) => {
                        out.iter_mut().zip(&values[range]).for_each(|(number, value)| *number = *value as f32);
                    }
                    Data::Bools(_) | Data::Texts(_) => return Err("its elements are no numbers".to_owned()),
                }
                Ok(())
            }
        }
    }

    /// All numbers: for tables and scales, which are small.
    fn all(&self) -> Result<Vec<f32>, String> {
        let mut numbers = vec![0.0; count_of(self.shape()).unwrap_or(usize::MAX)];
        self.rows(0, &mut numbers)?;
        Ok(numbers)
    }
}

/// The numbers in one row of a shape; a scalar is one row of one.
fn row_width(shape: &[usize]) -> usize {
    shape.iter().skip(1).product()
}

impl Weight {
    /// A constant.
    pub(crate) fn plain(source: Source) -> Self {
        Self { dtype: source.dtype(), shape: source.shape().to_vec(), form: Form::Plain(source) }
    }

    /// A constant as another type.
    pub(crate) fn cast(source: Source, dtype: ElementType) -> Result<Self, String> {
        if source.dtype().class() != Class::Float || dtype.class() != Class::Float {
            return Err("only floating-point constants are cast".to_owned());
        }
        Ok(Self { dtype, shape: source.shape().to_vec(), form: Form::Plain(source) })
    }

    /// `constexpr_affine_dequantize`.
    pub(crate) fn affine(data: Source, zero_point: &Source, scale: &Source, axis: i64) -> Result<Self, String> {
        if !matches!(data.dtype(), ElementType::Int8 | ElementType::UInt8) {
            return Err(format!("`quantized_data` is `{}`, not `int8` or `uint8`", data.dtype()));
        }
        if zero_point.dtype() != data.dtype() {
            return Err(format!("`zero_point` is `{}` and `quantized_data` is `{}`", zero_point.dtype(), data.dtype()));
        }
        if scale.dtype().class() != Class::Float {
            return Err(format!("`scale` is `{}`", scale.dtype()));
        }
        let shape = data.shape().to_vec();
        let axis = axis_of(axis, shape.len())?;
        for (name, source) in [("scale", scale), ("zero_point", zero_point)] {
            if !(source.shape().is_empty() || source.shape() == [shape[axis]]) {
                let found = source.shape();
                return Err(format!("`{name}` has the shape `{found:?}`; its axis has `{}` indices", shape[axis]));
            }
        }
        let dtype = scale.dtype();
        // One number for each channel, however large the matrix is.
        let small = |source: &Source| Tensor::new(ElementType::Float32, source.shape().to_vec(), source.all()?.into());
        let form = Form::Affine { zero_point: small(zero_point)?, scale: small(scale)?, data, axis };
        Ok(Self { dtype, shape, form })
    }

    /// `constexpr_lut_to_dense` up to CoreML7.
    pub(crate) fn packed_table(indices: Source, table: &Source, shape: Vec<usize>) -> Result<Self, String> {
        let entries = count_of(table.shape()).unwrap_or(0);
        let index = index_type(entries).filter(|_| table.shape().len() == 1);
        let index = index.filter(|index| index.bits() != 3);
        let index =
            index.ok_or_else(|| format!("`lut` has the shape `{:?}`; 2, 4, 16, 64 or 256 are right", table.shape()))?;
        if indices.dtype() != ElementType::UInt8 || indices.shape().len() != 1 {
            return Err("`indices` are no packed bytes".to_owned());
        }
        let bytes = count_of(&shape).and_then(|count| index.bytes(count));
        if bytes != Some(indices.shape()[0]) {
            let found = indices.shape()[0];
            return Err(format!("`indices` have `{found}` bytes; the shape `{shape:?}` takes `{bytes:?}`"));
        }
        Ok(Self { dtype: table.dtype(), shape, form: Form::PackedTable { indices, index, table: table.all()? } })
    }

    /// `constexpr_lut_to_dense` from CoreML8 on.
    pub(crate) fn table(indices: Source, table: Source, axis: Option<i64>) -> Result<Self, String> {
        let rank = indices.shape().len();
        let tables = table.shape().to_vec();
        if tables.len() != rank + 2 || rank == 0 {
            return Err(format!("`lut` has the shape `{tables:?}`; indices of rank `{rank}` take two more dimensions"));
        }
        let (entries, vector) = (tables[rank], tables[rank + 1]);
        if index_type(entries) != Some(indices.dtype()) {
            return Err(format!("`lut` has `{entries}` entries; `indices` are `{}`", indices.dtype()));
        }
        let axis = match axis {
            Some(axis) => axis_of(axis, rank)?,
            None if vector == 1 => rank - 1,
            None => return Err("`lut` has vectors, but there is no `vector_axis`".to_owned()),
        };
        check_blocks("lut", indices.shape(), &tables[..rank])?;
        let mut shape = indices.shape().to_vec();
        shape[axis] = shape[axis].checked_mul(vector).ok_or("its shape is too large")?;
        count_of(&shape).ok_or("its shape is too large")?;
        Ok(Self { dtype: table.dtype(), shape, form: Form::Table { indices, table, axis } })
    }

    /// `constexpr_blockwise_shift_scale`.
    pub(crate) fn blockwise(data: Source, scale: Source, offset: Option<Source>) -> Result<Self, String> {
        if scale.dtype().class() != Class::Float {
            return Err(format!("`scale` is `{}`", scale.dtype()));
        }
        check_blocks("scale", data.shape(), scale.shape())?;
        if let Some(offset) = &offset {
            if offset.shape() != scale.shape() {
                return Err(format!("`offset` has the shape `{:?}`, `scale` `{:?}`", offset.shape(), scale.shape()));
            }
            if offset.dtype().class() != Class::Float && offset.dtype() != data.dtype() {
                return Err(format!("`offset` is `{}` and `data` is `{}`", offset.dtype(), data.dtype()));
            }
        }
        let (dtype, shape) = (scale.dtype(), data.shape().to_vec());
        Ok(Self { dtype, shape, form: Form::Blockwise { data, scale, offset } })
    }

    pub(crate) fn dtype(&self) -> ElementType {
        self.dtype
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn count(&self) -> usize {
        count_of(&self.shape).unwrap_or(usize::MAX)
    }

    /// How many rows it has, and how many numbers are in each.
    pub(crate) fn extent(&self) -> (usize, usize) {
        (self.shape.first().copied().unwrap_or(1), row_width(&self.shape))
    }

    /// `out.len()` numbers from the row `first` on; `out` is a whole number of rows. Where halves are `rounded`, what a
    /// scale or a table made is rounded, too, if it is declared as halves.
    pub(crate) fn read(&self, first: usize, out: &mut [f32], rounded: bool) -> Result<(), String> {
        let (rows, width) = self.extent();
        let count = out.len().checked_div(width).unwrap_or(0);
        if first.checked_add(count).is_none_or(|end| end > rows) || count * width != out.len() {
            return Err(format!("rows `{first}` and `{count}` on are not all of the `{rows}` that there are"));
        }
        if out.is_empty() {
            return Ok(());
        }
        match &self.form {
            Form::Plain(source) => source.rows(first, out)?,
            Form::Affine { data, zero_point, scale, axis } => {
                data.rows(first, out)?;
                affine(&self.shape, first, *axis, zero_point, scale, out);
            }
            Form::PackedTable { indices, index, table } => packed_table(indices, *index, table, first * width, out)?,
            Form::Table { indices, table, axis } => {
                lookup(&self.shape, indices, table, *axis, first, count, out)?;
            }
            Form::Blockwise { data, scale, offset } => {
                data.rows(first, out)?;
                blockwise(&self.shape, scale, offset.as_ref(), first, out)?;
            }
        }
        let exact = matches!(self.form, Form::Plain(_));
        if rounded && !exact && self.dtype == ElementType::Float16 {
            round(out);
        }
        Ok(())
    }

    /// All of it.
    pub(crate) fn tensor(&self, rounded: bool) -> Result<Tensor, String> {
        let mut numbers = vec![0.0; self.count()];
        self.read(0, &mut numbers, rounded)?;
        let data = match self.dtype.class() {
            Class::Float => numbers.into(),
            Class::Int if self.dtype.bits() <= 16 => {
                numbers.into_iter().map(|number| number as i64).collect::<Vec<_>>().into()
            }
            Class::Bool | Class::Text | Class::Int => return Err(format!("`{}` are no weights", self.dtype)),
        };
        Tensor::new(self.dtype, self.shape.clone(), data)
    }
}

/// The type of indices into a table of `entries`.
fn index_type(entries: usize) -> Option<ElementType> {
    match entries {
        2 => Some(ElementType::UInt1),
        4 => Some(ElementType::UInt2),
        8 => Some(ElementType::UInt3),
        16 => Some(ElementType::UInt4),
        64 => Some(ElementType::UInt6),
        256 => Some(ElementType::UInt8),
        _ => None,
    }
}

/// `axis`, which may count from the end, as an index into a shape of this rank.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Result<usize, String> {
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| format!("there is no axis `{axis}` of `{rank}`"))
}

fn check_blocks(name: &str, shape: &[usize], blocks: &[usize]) -> Result<(), String> {
    let whole = |(size, blocks): (&usize, &usize)| *blocks != 0 && size.is_multiple_of(*blocks);
    if shape.is_empty() || shape.len() != blocks.len() || !shape.iter().zip(blocks).all(whole) {
        return Err(format!("`{name}` has blocks of the shape `{blocks:?}`, which do not divide `{shape:?}`"));
    }
    Ok(())
}

fn affine(shape: &[usize], first: usize, axis: usize, zero_point: &Tensor, scale: &Tensor, out: &mut [f32]) {
    let inner: usize = shape[axis + 1..].iter().product();
    let zero_points = zero_point.floats().unwrap_or(&[]);
    let scales = scale.floats().unwrap_or(&[]);
    let at = |values: &[f32], channel: usize| if values.len() == 1 { values[0] } else { values[channel] };
    // Rows are whole, so a run of equal channels never begins in the middle.
    let start = if axis == 0 { first } else { 0 };
    for (run, numbers) in out.chunks_mut(inner.max(1)).enumerate() {
        let channel = (start + run) % shape[axis];
        let (zero_point, scale) = (at(zero_points, channel), at(scales, channel));
        for number in numbers {
            *number = (*number - zero_point) * scale;
        }
    }
}

fn packed_table(
    indices: &Source,
    index: ElementType,
    table: &[f32],
    first: usize,
    out: &mut [f32],
) -> Result<(), String> {
    let bits = index.bits();
    let from = first * bits / 8;
    let to = ((first + out.len()) * bits).div_ceil(8);
    let mut numbers = vec![0.0; to - from];
    indices.rows(from, &mut numbers)?;
    let bytes: Vec<u8> = numbers.into_iter().map(|number| number as u8).collect();
    unpack(&bytes, first * bits % 8, index, out.len(), |at, entry| out[at] = table[entry as usize]);
    Ok(())
}

/// The blocks that whole rows of a shape lie in.
struct Blocks {
    /// The first row of blocks.
    first: usize,
    /// How many rows of blocks.
    rows: usize,
    /// Blocks in one row of blocks.
    width: usize,
    /// The size of a block in every dimension.
    sizes: Vec<usize>,
    /// How far the next block of a dimension is.
    strides: Vec<usize>,
}

impl Blocks {
    fn new(shape: &[usize], blocks: &[usize], first: usize, count: usize) -> Self {
        let sizes: Vec<usize> = shape.iter().zip(blocks).map(|(size, blocks)| size / blocks).collect();
        let from = first / sizes[0].max(1);
        let to = (first + count - 1) / sizes[0].max(1) + 1;
        Self { first: from, rows: to - from, width: row_width(blocks), sizes, strides: strides(blocks) }
    }

    /// Calls `visit` for every run of numbers that lie in the same block along the last dimension, with the block's index
    /// counted from the first one.
    fn runs(&self, shape: &[usize], first: usize, out: &mut [f32], mut visit: impl FnMut(usize, &mut [f32])) {
        let last = shape.len() - 1;
        if last == 0 {
            for (row, number) in out.iter_mut().enumerate() {
                visit((first + row) / self.sizes[0] - self.first, std::slice::from_mut(number));
            }
            return;
        }
        let line_strides = strides(&shape[..last]);
        for (line, numbers) in out.chunks_mut(shape[last]).enumerate() {
            let mut rest = line + first * line_strides[0];
            let mut block = 0;
            for ((stride, size), step) in line_strides.iter().zip(&self.sizes).zip(&self.strides) {
                block += rest / stride / size * step;
                rest %= stride;
            }
            block -= self.first * self.strides[0];
            for (run, numbers) in numbers.chunks_mut(self.sizes[last]).enumerate() {
                visit(block + run, numbers);
            }
        }
    }
}

/// How far apart neighbours along each dimension are.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for index in (1..shape.len()).rev() {
        strides[index - 1] = strides[index] * shape[index];
    }
    strides
}

fn blockwise(
    shape: &[usize],
    scale: &Source,
    offset: Option<&Source>,
    first: usize,
    out: &mut [f32],
) -> Result<(), String> {
    let blocks = Blocks::new(shape, scale.shape(), first, out.len() / row_width(shape));
    let mut scales = vec![0.0; blocks.rows * blocks.width];
    scale.rows(blocks.first, &mut scales)?;
    let mut offsets = vec![0.0; scales.len()];
    if let Some(offset) = offset {
        offset.rows(blocks.first, &mut offsets)?;
    }
    blocks.runs(shape, first, out, |block, numbers| {
        let (offset, scale) = (offsets[block], scales[block]);
        for number in numbers {
            *number = (*number - offset) * scale;
        }
    });
    Ok(())
}

fn lookup(
    shape: &[usize],
    indices: &Source,
    table: &Source,
    axis: usize,
    first: usize,
    count: usize,
    out: &mut [f32],
) -> Result<(), String> {
    let of = indices.shape();
    let rank = of.len();
    let (entries, vector) = (table.shape()[rank], table.shape()[rank + 1]);
    // The rows of indices that the rows asked for are made from.
    let per_row = if axis == 0 { vector } else { 1 };
    let from = first / per_row;
    let rows = (first + count - 1) / per_row + 1 - from;
    let mut numbers = vec![0.0; rows * row_width(of)];
    indices.rows(from, &mut numbers)?;
    let blocks = Blocks::new(of, &table.shape()[..rank], from, rows);
    let mut tables = vec![0.0; blocks.rows * row_width(table.shape())];
    table.rows(blocks.first, &mut tables)?;
    if vector == 1 {
        // An index becomes one number in its place.
        out.copy_from_slice(&numbers);
        blocks.runs(of, from, out, |block, numbers| {
            let table = &tables[block * entries..][..entries];
            for number in numbers {
                *number = table[*number as usize];
            }
        });
        return Ok(());
    }
    // An index becomes `vector` numbers along the axis. First where in `tables` each of them begins, in place.
    let mut begins = vec![0_usize; numbers.len()];
    let mut at = 0;
    blocks.runs(of, from, &mut numbers, |block, numbers| {
        for number in numbers {
            begins[at] = (block * entries + *number as usize) * vector;
            at += 1;
        }
    });
    let (index_strides, out_strides) = (strides(of), strides(shape));
    for (at, number) in out.iter_mut().enumerate() {
        let mut rest = at + first * out_strides[0];
        let mut index = 0;
        let mut within = 0;
        for dimension in 0..rank {
            let mut coordinate = rest / out_strides[dimension];
            rest %= out_strides[dimension];
            if dimension == axis {
                within = coordinate % vector;
                coordinate /= vector;
            }
            index += coordinate * index_strides[dimension];
        }
        *number = tables[begins[index - from * index_strides[0]] + within];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ints(dtype: ElementType, shape: &[usize], values: Vec<i64>) -> Source {
        Source::Tensor(Tensor::new(dtype, shape.to_vec(), values.into()).expect("a tensor"))
    }

    fn floats(shape: &[usize], values: Vec<f32>) -> Source {
        Source::Tensor(Tensor::new(ElementType::Float16, shape.to_vec(), values.into()).expect("a tensor"))
    }

    fn all(weight: &Weight) -> Vec<f32> {
        weight.tensor(false).expect("it can be read").floats().expect("floats").to_vec()
    }

    /// What is read in pieces is what is read at once.
    fn pieces(weight: &Weight) -> Vec<f32> {
        let (rows, width) = weight.extent();
        let mut found = Vec::new();
        for row in 0..rows {
            let mut out = vec![0.0; width];
            weight.read(row, &mut out, false).expect("a row");
            found.extend(out);
        }
        found
    }

    #[test]
    fn channels_have_scales_of_their_own_along_either_axis() {
        let data = || ints(ElementType::Int8, &[2, 3], vec![1, 2, 3, 4, 5, 6]);
        let zero = |values: Vec<i64>| ints(ElementType::Int8, &[values.len()], values);
        let weight = Weight::affine(data(), &zero(vec![0, 1]), &floats(&[2], vec![1.0, 10.0]), 0).expect("a weight");
        assert_eq!(all(&weight), [1.0, 2.0, 3.0, 30.0, 40.0, 50.0]);
        assert_eq!(pieces(&weight), all(&weight));
        let weight =
            Weight::affine(data(), &zero(vec![0; 3]), &floats(&[3], vec![1.0, 2.0, 3.0]), -1).expect("a weight");
        assert_eq!(all(&weight), [1.0, 4.0, 9.0, 4.0, 10.0, 18.0]);
        assert_eq!(pieces(&weight), all(&weight));
        assert!(Weight::affine(data(), &zero(vec![0; 3]), &floats(&[3], vec![1.0; 3]), 0).is_err());
    }

    #[test]
    fn packed_indices_are_read_from_the_middle_of_a_byte() {
        let table = floats(&[16], (0_u8..16).map(f32::from).collect());
        let indices = ints(ElementType::UInt8, &[5], vec![0x10, 0x32, 0x54, 0x76, 0x98]);
        let weight = Weight::packed_table(indices.clone(), &table, vec![3, 3]).expect("a weight");
        assert_eq!(all(&weight), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(pieces(&weight), all(&weight));
        assert!(Weight::packed_table(indices, &table, vec![3, 4]).is_err());
    }

    #[test]
    fn groups_have_tables_of_their_own() {
        let indices = ints(ElementType::UInt1, &[4, 2], vec![0, 1, 1, 0, 0, 0, 1, 1]);
        let table = floats(&[2, 1, 2, 1], vec![1.0, 2.0, 10.0, 20.0]);
        let weight = Weight::table(indices, table, None).expect("a weight");
        assert_eq!(all(&weight), [1.0, 2.0, 2.0, 1.0, 10.0, 10.0, 20.0, 20.0]);
        assert_eq!(pieces(&weight), all(&weight));
    }

    #[test]
    fn an_entry_may_be_a_vector_along_either_axis() {
        let indices = || ints(ElementType::UInt1, &[2, 2], vec![0, 1, 1, 0]);
        let table = || floats(&[1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let weight = Weight::table(indices(), table(), Some(0)).expect("a weight");
        assert_eq!(weight.shape(), [4, 2]);
        assert_eq!(all(&weight), [1.0, 3.0, 2.0, 4.0, 3.0, 1.0, 4.0, 2.0]);
        assert_eq!(pieces(&weight), all(&weight));
        let weight = Weight::table(indices(), table(), Some(1)).expect("a weight");
        assert_eq!(all(&weight), [1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 1.0, 2.0]);
        assert_eq!(pieces(&weight), all(&weight));
        assert!(Weight::table(indices(), table(), None).is_err());
    }

    proptest! {
        /// Against the definition: every element by its own coordinates.
        #[test]
        fn blocks_of_any_shape_are_scaled_as_defined(
            blocks in prop::collection::vec((1_usize..4, 1_usize..4), 1..4),
            seed in any::<u8>(),
            with_offset in any::<bool>(),
        ) {
            let shape: Vec<usize> = blocks.iter().map(|(count, size)| count * size).collect();
            let counts: Vec<usize> = blocks.iter().map(|(count, _)| *count).collect();
            let number = |index: usize| (index * 7 + usize::from(seed)) % 15;
            let total: usize = shape.iter().product();
            let many: usize = counts.iter().product();
            let data: Vec<i64> = (0..total).map(|index| number(index) as i64 - 8).collect();
            let scales: Vec<f32> = (0..many).map(|index| number(index) as f32 + 0.5).collect();
            let offsets: Vec<i64> = (0..many).map(|index| if with_offset { number(index) as i64 - 7 } else { 0 }).collect();
            let offset = with_offset.then(|| ints(ElementType::Int4, &counts, offsets.clone()));
            let weight = Weight::blockwise(
                ints(ElementType::Int4, &shape, data.clone()), floats(&counts, scales.clone()), offset,
            ).expect("a weight");
            let expected: Vec<f32> = (0..total).map(|index| {
                let mut rest = index;
                let mut block = 0;
                for ((stride, (_, size)), step) in strides(&shape).iter().zip(&blocks).zip(strides(&counts)) {
                    block += rest / stride / size * step;
                    rest %= stride;
                }
                (data[index] - offsets[block]) as f32 * scales[block]
            }).collect();
            prop_assert_eq!(&all(&weight), &expected);
            prop_assert_eq!(&pieces(&weight), &expected);
        }
    }
}
