//! Matrices of a model in packed form, and layers of them with a bias and what follows the product.

use std::sync::Mutex;

use embedbar_kernels::{
    Activated, AddTo, Element, Epilogue, ExactMatrix, ExactPacker, ExactShape, Gated, Group, Isa, Output, PackError,
    PackedMatrix, PackedShape, Packer, PairedMatrix, PairedPacker, PairedShape, Plain, Product, QuantisedRows,
    RoundedRows, WithBias, elementwise::Activation, interleaved,
};

use super::{
    packing::{Kind, Packing},
    shelf::{Bytes, Shelf},
    team,
};
use crate::{
    EngineError,
    weights::{Role, Stored, Weights},
};

/// One packed matrix.
pub(super) struct Matrix {
    form: Form,
    isa: Isa,
    bytes: Bytes,
}

/// What the bytes of a matrix are.
#[derive(Clone, Copy)]
enum Form {
    Coded(PackedShape),
    Exact(ExactShape),
    /// BF16 for processors that multiply it with BF16.
    Paired(PairedShape),
}

impl Form {
    fn of(kind: Kind, outputs: usize, inputs: usize, packing: Packing) -> Self {
        match kind.shape(outputs, inputs, packing.isa) {
            Ok(shape) => Self::Coded(shape),
            Err(ExactShape { element: Element::BF16, .. }) if packing.paired => {
                Self::Paired(PairedShape { outputs, inputs })
            }
            Err(shape) => Self::Exact(shape),
        }
    }

    fn check(self) -> Result<(), PackError> {
        match self {
            Self::Coded(shape) => shape.check(),
            Self::Exact(shape) => shape.check(),
            Self::Paired(shape) => shape.check(),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Coded(shape) => shape.bytes(),
            Self::Exact(shape) => shape.bytes(),
            Self::Paired(shape) => shape.bytes(),
        }
    }

    fn panel_bytes(self) -> usize {
        match self {
            Self::Coded(shape) => shape.panel_bytes(),
            Self::Exact(shape) => shape.panel_bytes(),
            Self::Paired(shape) => shape.panel_bytes(),
        }
    }

    /// Packs one panel of rows that `source` finds; all are of one kind. Says what is wrong with a tensor where one cannot be used.
    fn pack<'a>(
        self,
        kind: Kind,
        panel: usize,
        bytes: &mut [u8],
        source: impl Fn(usize) -> (&'a Stored, usize),
    ) -> Result<(), String> {
        const CHECKED: &str = "it was checked. This is a bug.";
        let copy = |row, target: &mut [u8]| {
            let (stored, row) = source(row);
            target.copy_from_slice(stored.row(row));
            Ok(())
        };
        match self {
            Self::Coded(shape) => Packer::new(shape).expect(CHECKED).panel(panel, bytes, |row, target| {
                let (stored, row) = source(row);
                let unusable =
                    |error: candle_core::Error| format!("the tensor `{}` cannot be used: {error}", stored.name);
                kind.fill(stored, row, target).map_err(unusable)
            }),
            Self::Exact(shape) => ExactPacker::new(shape).expect(CHECKED).panel(panel, bytes, copy),
            Self::Paired(shape) => PairedPacker::new(shape).expect(CHECKED).panel(panel, bytes, copy),
        }
    }
}

/// In which forms matrices want the rows on their left, besides as they are.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Quantised in such groups.
    pub(super) codes: Option<Group>,
    /// Rounded to BF16.
    pub(super) rounded: bool,
}

impl Wanted {
    fn and(self, other: Self) -> Self {
        Self { codes: self.codes.or(other.codes), rounded: self.rounded || other.rounded }
    }
}

/// Rows on the left of a product, in each form that a matrix may ask for.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    /// `[rows][inputs]`.
    pub(super) rows: &'a [f32],
    /// The same, quantised; only looked at by matrices that want it.
    pub(super) codes: &'a QuantisedRows,
    /// The same, rounded to BF16; likewise.
    pub(super) rounded: &'a RoundedRows,
}

impl Matrix {
    /// Packs a matrix whose row number n is row `place(n).1` of `sources[place(n).0]`. All sources are of one kind and width.
    fn pack(
        sources: &[Stored],
        outputs: usize,
        shelf: &mut Shelf,
        place: impl Fn(usize) -> (usize, usize) + Sync,
    ) -> Result<Self, EngineError> {
        let (first, packing) = (&sources[0], shelf.packing());
        let kind = Kind::of(first);
        let form = Form::of(kind, outputs, first.columns, packing);
        let corrupt = |problem: String| EngineError::corrupt(first.file.path(), problem);
        form.check().map_err(|error| corrupt(error.to_string()))?;
        let source = |row| {
            let (source, row) = place(row);
            (&sources[source], row)
        };
        let fill = |bytes: &mut [u8]| {
            let failed = Mutex::new(None);
            team().for_each_piece(bytes, form.panel_bytes(), |panel, bytes| {
                if let Err(problem) = form.pack(kind, panel, bytes, source) {
                    *failed.lock().expect("nobody panics while they hold it. This is a bug.") = Some(problem);
                }
            });
            if let Some(problem) = failed.into_inner().expect("nobody panicked while they held it. This is a bug.") {
                return Err(corrupt(problem));
            }
            release(sources);
            Ok(())
        };
        Ok(Self { form, isa: packing.isa, bytes: shelf.place(form.bytes(), fill)? })
    }

    /// Matrices below one another.
    fn stacked(sources: &[Stored], shelf: &mut Shelf) -> Result<Self, EngineError> {
        let outputs = sources.iter().map(|source| source.rows).sum();
        Self::pack(sources, outputs, shelf, |row| {
            let mut row = row;
            for (number, source) in sources.iter().enumerate() {
                if row < source.rows {
                    return (number, row);
                }
                row -= source.rows;
            }
            unreachable!("there are as many rows as all sources have. This is a bug.")
        })
    }

    fn outputs(&self) -> usize {
        match self.form {
            Form::Coded(shape) => shape.outputs,
            Form::Exact(shape) => shape.outputs,
            Form::Paired(shape) => shape.outputs,
        }
    }

    fn wanted(&self) -> Wanted {
        match self.form {
            Form::Coded(shape) => Wanted { codes: Some(shape.group), ..Wanted::default() },
            Form::Exact(_) => Wanted::default(),
            Form::Paired(_) => Wanted { rounded: true, ..Wanted::default() },
        }
    }

    fn multiply<E: Epilogue>(&self, left: Left, output: Output, epilogue: &E) {
        const SAME: &str = "it has not changed since it was packed. This is a bug.";
        let bytes = self.bytes.get();
        let operands = match self.form {
            Form::Coded(shape) => PackedMatrix::new(shape, bytes).expect(SAME).times(left.codes),
            Form::Exact(shape) => ExactMatrix::new(shape, self.isa, bytes).expect(SAME).times(left.rows),
            Form::Paired(shape) => PairedMatrix::new(shape, self.isa, bytes).expect(SAME).times(left.rounded),
        };
        let product = Product::new(operands, output, epilogue);
        team().for_each(product.parts(), &|_, _| {
            product.run_part();
        });
    }
}

/// Lets the system take back the pages of matrices that have been copied.
fn release(sources: &[Stored]) {
    for source in sources {
        source.release();
    }
}

/// What becomes of a layer's product.
#[derive(Clone, Copy)]
pub(super) enum Then {
    /// It is written.
    Write,
    /// It is added to what is there.
    Add,
    /// Its activation is written.
    Activate(Activation),
}

/// `x · weightᵀ + bias`, for one weight or several side by side.
pub(super) struct Linear {
    /// Each with the first of its columns in the output; those of one kind are one matrix.
    parts: Vec<(usize, Matrix)>,
    outputs: usize,
    /// As long as the output.
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// The matrices and biases of `roles`; each has its outputs and all have `inputs`.
    pub(super) fn load(
        weights: &Weights,
        roles: &[(Role, usize)],
        inputs: usize,
        shelf: &mut Shelf,
    ) -> Result<Self, EngineError> {
        let sources: Vec<Stored> =
            roles.iter().map(|&(role, outputs)| weights.stored(role, [outputs, inputs])).collect::<Result<_, _>>()?;
        let mut parts = Vec::new();
        let mut outputs = 0;
        for same in sources.chunk_by(|one, next| Kind::of(one) == Kind::of(next)) {
            let matrix = Matrix::stacked(same, shelf)?;
            let first = outputs;
            outputs += matrix.outputs();
            parts.push((first, matrix));
        }
        Ok(Self { parts, outputs, bias: weights.biases(roles)? })
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// What its matrices want.
    pub(super) fn wanted(&self) -> Wanted {
        self.parts.iter().fold(Wanted::default(), |wanted, (_, matrix)| wanted.and(matrix.wanted()))
    }

    /// Multiplies `left` and does `then` with the product in `output`, `[rows][outputs]`.
    pub(super) fn forward(&self, left: Left, output: &mut [f32], then: Then) {
        let rows = output.len() / self.outputs;
        for (first, matrix) in &self.parts {
            let columns = matrix.outputs();
            let bias = self.bias.as_ref().map(|bias| &bias[*first..first + columns]);
            let output = Output::new(&mut output[*first..], rows, columns, self.outputs);
            match (then, bias) {
                (Then::Write, None) => matrix.multiply(left, output, &Plain),
                (Then::Write, Some(bias)) => matrix.multiply(left, output, &WithBias(bias)),
                (Then::Add, bias) => matrix.multiply(left, output, &AddTo { bias }),
                (Then::Activate(activation), bias) => {
                    matrix.multiply(left, output, &Activated { bias, activation, isa: matrix.isa });
                }
            }
        }
    }
}

/// `activation(x · gateᵀ) * (x · upᵀ)`.
pub(super) enum GatedLinear {
    /// Both are of one kind and packed panel by panel in turn.
    Together {
        both: Matrix,
        outputs: usize,
    },
    Apart {
        gate: Linear,
        up: Linear,
    },
}

impl GatedLinear {
    pub(super) fn load(
        weights: &Weights,
        [gate, up]: [Role; 2],
        shape: [usize; 2],
        shelf: &mut Shelf,
    ) -> Result<Self, EngineError> {
        let [outputs, inputs] = shape;
        let sources = [weights.stored(gate, shape)?, weights.stored(up, shape)?];
        if Kind::of(&sources[0]) != Kind::of(&sources[1]) || !outputs.is_multiple_of(embedbar_kernels::PANEL) {
            let mut alone = |role| Linear::load(weights, &[(role, outputs)], inputs, shelf);
            return Ok(Self::Apart { gate: alone(gate)?, up: alone(up)? });
        }
        Ok(Self::Together { both: Matrix::pack(&sources, 2 * outputs, shelf, interleaved)?, outputs })
    }

    /// What its matrices want.
    pub(super) fn wanted(&self) -> Wanted {
        match self {
            Self::Together { both, .. } => both.wanted(),
            Self::Apart { gate, up } => gate.wanted().and(up.wanted()),
        }
    }

    /// Fills `output`, `[rows][outputs]`; `spare` is as large and only used where the matrices are apart.
    pub(super) fn forward(&self, left: Left, output: &mut [f32], spare: &mut [f32], activation: Activation) {
        match self {
            Self::Together { both, outputs } => {
                let rows = output.len() / outputs;
                let output = Output::new(output, rows, *outputs, *outputs);
                both.multiply(left, output, &Gated { activation, isa: both.isa });
            }
            Self::Apart { gate, up } => {
                gate.forward(left, output, Then::Write);
                up.forward(left, spare, Then::Write);
                activation.gate(Isa::best(), output, spare);
            }
        }
    }

    /// Whether [`Self::forward`] needs its spare room.
    pub(super) fn needs_spare(&self) -> bool {
        matches!(self, Self::Apart { .. })
    }
}
