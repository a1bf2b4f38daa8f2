//! Evaluation: a function of a package, prepared once and run as often as asked. Operation after operation, in the order of
//! the program; nothing is fused, cached or scheduled. What each operation does is in [`crate::operation`].

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::constant::{self, Value};
use crate::element::{Class, ElementType};
use crate::literal::{self, TensorType};
use crate::operation::{Call, Slot};
use crate::package::{Package, block};
use crate::proto::{self, Bound};
use crate::signature;
use crate::tensor::{Tensor, count_of};
use crate::{MilError, operation};

/// All values of a program that are alive at once may take so much; weights are not among them.
const LIVE_BYTES: usize = 4 << 30;

/// How numbers are computed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Arithmetic {
    /// Every result in single precision, whatever type it is declared with.
    #[default]
    Single,
    /// As [`Self::Single`], and every result that is declared as `fp16` is rounded to a half: shows what overflows on hardware
    /// that computes in halves.
    HalfRounded,
}

/// A function of a package that is ready to run. Weights stay in the package's files, which must not change meanwhile.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    inputs: Vec<Input>,
    outputs: Vec<(String, usize)>,
    steps: Vec<Step>,
    values: Vec<Option<Value>>,
    arithmetic: Arithmetic,
}

/// An input of a program.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its type.
    pub tensor_type: TensorType,
    accepted: Accepted,
    slot: usize,
}

/// The shapes that a model's description allows for an input.
#[derive(Clone, Debug)]
enum Accepted {
    /// Those of the type.
    Declared,
    Enumerated(Vec<Vec<usize>>),
    /// Smallest and largest size of each dimension; `None`: no largest.
    Ranges(Vec<(usize, Option<usize>)>),
}

#[derive(Debug)]
struct Step {
    kind: String,
    inputs: BTreeMap<String, Vec<Slot>>,
    outputs: Vec<(String, TensorType, usize)>,
    /// What is not needed afterwards.
    drops: Vec<usize>,
}

impl Package {
    /// Prepares the function of this name, or the default one.
    pub fn program(&self, function: Option<&str>, arithmetic: Arithmetic) -> Result<Program, MilError> {
        let (name, function) = self.function(function)?;
        let block = block(function).map_err(|problem| self.bad_program(problem))?;
        let mut builder = Builder {
            package: self,
            rounded: arithmetic == Arithmetic::HalfRounded,
            slots: HashMap::new(),
            values: Vec::new(),
            steps: Vec::new(),
        };
        let mut inputs = Vec::new();
        for input in &function.inputs {
            let tensor_type = literal::tensor_type(input.kind.as_ref())
                .map_err(|problem| self.bad_program(format!("the input `{}`: {problem}", input.name)))?;
            let described = self.interface(name).0.iter().find(|described| described.name == input.name);
            let accepted = described.map_or(Accepted::Declared, Accepted::of);
            inputs.push(Input { name: input.name.clone(), tensor_type, accepted, slot: builder.define(&input.name)? });
        }
        for operation in &block.operations {
            builder.add(operation, signature::parameters_are_inputs(&function.opset))?;
        }
        let outputs = block.outputs.iter().map(|name| Ok((name.clone(), builder.slot(name)?)));
        let outputs = outputs.collect::<Result<Vec<_>, String>>().map_err(|problem| self.bad_program(problem))?;
        let Builder { values, mut steps, .. } = builder;
        drop_after_last_use(&mut steps, &outputs, &values);
        Ok(Program { path: self.path().to_path_buf(), inputs, outputs, steps, values, arithmetic })
    }

    fn bad_program(&self, problem: impl Into<String>) -> MilError {
        MilError::BadProgram { path: self.path().to_path_buf(), problem: problem.into() }
    }
}

struct Builder<'a> {
    package: &'a Package,
    rounded: bool,
    slots: HashMap<&'a str, usize>,
    values: Vec<Option<Value>>,
    steps: Vec<Step>,
}

impl<'a> Builder<'a> {
    fn define(&mut self, name: &'a str) -> Result<usize, MilError> {
        if self.slots.insert(name, self.values.len()).is_some() {
            return Err(self.package.bad_program(format!("`{name}` is defined twice")));
        }
        self.values.push(None);
        Ok(self.values.len() - 1)
    }

    fn slot(&self, name: &str) -> Result<usize, String> {
        self.slots.get(name).copied().ok_or_else(|| format!("`{name}` is used and was not defined before"))
    }

    fn add(&mut self, operation: &'a proto::Operation, parameters_are_inputs: bool) -> Result<(), MilError> {
        let package = self.package;
        let kind = operation.kind.as_str();
        let output = operation.outputs.first().map_or("", |output| output.name.as_str());
        let failed = |problem: String| failure(package.path(), kind, output, problem);
        let unknown = || MilError::UnknownOperation {
            path: package.path().to_path_buf(),
            operation: kind.to_owned(),
            output: output.to_owned(),
        };
        if constant::is_constant(kind) {
            let lookup = |name: &str| self.slots.get(name).and_then(|slot| self.values[*slot].clone());
            let value = constant::evaluate(operation, parameters_are_inputs, package.files(), &lookup)
                .map_err(|fault| failed(fault.problem))?
                .ok_or_else(unknown)?;
            let [declared] = operation.outputs.as_slice() else {
                return Err(failed("it has not one output".to_owned()));
            };
            let tensor_type = literal::tensor_type(declared.kind.as_ref()).map_err(&failed)?;
            let found = value.tensor_type();
            if found != tensor_type {
                return Err(failed(format!("it is declared as `{tensor_type}` and holds `{found}`")));
            }
            let value = match value {
                // Compressed ones are not exact in halves.
                Value::Tensor(tensor) => {
                    let dtype = tensor.dtype();
                    Value::Tensor(tensor.typed(dtype, self.rounded).map_err(&failed)?)
                }
                weight @ Value::Weight(_) => weight,
            };
            let slot = self.define(&declared.name)?;
            self.values[slot] = Some(value);
            return Ok(());
        }
        if !operation::is_known(kind) {
            return Err(unknown());
        }
        let mut inputs = BTreeMap::new();
        for (name, argument) in &operation.inputs {
            let bind = |binding: &proto::Binding| match &binding.bound {
                Some(Bound::Name(name)) => self.slot(name).map(Slot::Defined),
                Some(Bound::Value(value)) => {
                    constant::value_of(value, package.files()).map(Slot::Given).map_err(|fault| fault.problem)
                }
                None => Err("it is bound to nothing".to_owned()),
            };
            let slots = argument.arguments.iter().map(bind).collect::<Result<Vec<_>, _>>();
            inputs.insert(name.clone(), slots.map_err(|problem| failed(format!("`{name}`: {problem}")))?);
        }
        let mut outputs = Vec::new();
        for output in &operation.outputs {
            let tensor_type = literal::tensor_type(output.kind.as_ref()).map_err(&failed)?;
            outputs.push((output.name.clone(), tensor_type, self.define(&output.name)?));
        }
        if outputs.is_empty() {
            return Err(failed("it has no output".to_owned()));
        }
        self.steps.push(Step { kind: kind.to_owned(), inputs, outputs, drops: Vec::new() });
        Ok(())
    }
}

fn failure(path: &Path, operation: &str, output: &str, problem: String) -> MilError {
    let (operation, output) = (operation.to_owned(), output.to_owned());
    MilError::Operation { path: path.to_path_buf(), operation, output, problem }
}

/// Notes for every step which values nobody asks for any more. Constants stay: the next run needs them.
fn drop_after_last_use(steps: &mut [Step], outputs: &[(String, usize)], constants: &[Option<Value>]) {
    let mut needed: Vec<bool> = constants.iter().map(Option::is_some).collect();
    for (_, slot) in outputs {
        needed[*slot] = true;
    }
    for step in steps.iter_mut().rev() {
        let taken = step.inputs.values().flatten().filter_map(|slot| match slot {
            Slot::Defined(slot) => Some(*slot),
            Slot::Given(_) => None,
        });
        for slot in taken.chain(step.outputs.iter().map(|(_, _, slot)| *slot)) {
            if !std::mem::replace(&mut needed[slot], true) {
                step.drops.push(slot);
            }
        }
    }
}

impl Accepted {
    fn of(described: &proto::FeatureDescription) -> Self {
        let Some(array) = described.kind.as_ref().and_then(|kind| kind.multi_array.as_ref()) else {
            return Self::Declared;
        };
        if let Some(enumerated) = &array.enumerated_shapes {
            let sizes =
                |shape: &proto::Shape| shape.shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
            return Self::Enumerated(enumerated.shapes.iter().map(sizes).collect());
        }
        match &array.shape_range {
            None => Self::Declared,
            Some(range) => Self::Ranges(
                range
                    .size_ranges
                    .iter()
                    .map(|range| {
                        (
                            usize::try_from(range.lower_bound).unwrap_or(usize::MAX),
                            usize::try_from(range.upper_bound).ok(),
                        )
                    })
                    .collect(),
            ),
        }
    }
}

impl Input {
    fn check(&self, tensor: &Tensor) -> Result<(), String> {
        let declared = &self.tensor_type;
        if tensor.dtype().class() != declared.dtype.class() {
            return Err(format!("`{}` was given; `{}` is right", tensor.dtype(), declared.dtype));
        }
        let shape = tensor.shape();
        let same_rank = shape.len() == declared.shape.len();
        let fits = same_rank
            && shape.iter().zip(&declared.shape).all(|(size, declared)| declared.is_none_or(|it| it == *size));
        if !fits {
            return Err(format!("the shape `{shape:?}` was given; `{declared}` is right"));
        }
        match &self.accepted {
            Accepted::Enumerated(shapes) if !shapes.iter().any(|accepted| accepted == shape) => {
                Err(format!("the shape `{shape:?}` was given; `{shapes:?}` are right"))
            }
            Accepted::Ranges(ranges)
                if ranges.len() != shape.len()
                    || !shape
                        .iter()
                        .zip(ranges)
                        .all(|(size, (least, most))| size >= least && most.is_none_or(|most| *size <= most)) =>
            {
                Err(format!("the shape `{shape:?}` was given; sizes within `{ranges:?}` are right"))
            }
            _ => Ok(()),
        }
    }
}

impl Program {
    /// The inputs, in the order of the program.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// How many operations a run has.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The names of the outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|(name, _)| name.as_str())
    }

    /// Runs the function. Numbers that overflowed are among the outputs as they are.
    pub fn run(&self, inputs: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, MilError> {
        self.run_watched(inputs, |_, _| ControlFlow::Continue(()))
    }

    /// As [`Self::run`], and shows every result of every operation to `watch` with its name: for finding where numbers
    /// overflow, and for stopping.
    pub fn run_watched(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        mut watch: impl FnMut(&str, &Tensor) -> ControlFlow<()>,
    ) -> Result<BTreeMap<String, Tensor>, MilError> {
        let rounded = self.arithmetic == Arithmetic::HalfRounded;
        let mut values = self.values.clone();
        let bad = |input: &str, problem: String| MilError::BadInput {
            path: self.path.clone(),
            input: input.to_owned(),
            problem,
        };
        if let Some(name) = inputs.keys().find(|name| self.inputs.iter().all(|input| input.name != **name)) {
            return Err(bad(name, "there is no such input".to_owned()));
        }
        for input in &self.inputs {
            let tensor = inputs.get(&input.name).ok_or_else(|| bad(&input.name, "it was not given".to_owned()))?;
            input.check(tensor).map_err(|problem| bad(&input.name, problem))?;
            let tensor = tensor.clone().typed(input.tensor_type.dtype, rounded);
            values[input.slot] = Some(Value::Tensor(tensor.map_err(|problem| bad(&input.name, problem))?));
        }
        let mut live = 0;
        for step in &self.steps {
            let output = step.outputs.first().map_or("", |(name, _, _)| name.as_str());
            let go_on = self
                .step(step, &mut values, &mut live, &mut watch)
                .map_err(|problem| failure(&self.path, &step.kind, output, problem))?;
            if go_on.is_break() {
                return Err(MilError::Stopped { path: self.path.clone() });
            }
        }
        let mut found = BTreeMap::new();
        for (name, slot) in &self.outputs {
            let value = values[*slot].as_ref().ok_or_else(|| "it was not computed".to_owned());
            let tensor = value.and_then(|value| operation::materialise(value, rounded));
            found.insert(name.clone(), tensor.map_err(|problem| failure(&self.path, "output", name, problem))?);
        }
        Ok(found)
    }

    fn step(
        &self,
        step: &Step,
        values: &mut [Option<Value>],
        live: &mut usize,
        watch: &mut impl FnMut(&str, &Tensor) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, String> {
        let rounded = self.arithmetic == Arithmetic::HalfRounded;
        let call = Call::new(&step.kind, &step.inputs, values, rounded);
        let results = operation::evaluate(&call)?;
        if results.len() != step.outputs.len() {
            return Err(format!("it makes `{}` results and declares `{}`", results.len(), step.outputs.len()));
        }
        for (result, (name, declared, slot)) in results.into_iter().zip(&step.outputs) {
            let result = result.typed(declared.dtype, rounded)?;
            let shape = result.shape();
            let same = shape.len() == declared.shape.len()
                && shape.iter().zip(&declared.shape).all(|(size, declared)| declared.is_none_or(|it| it == *size));
            if !same {
                return Err(format!("it made the shape `{shape:?}` and declares `{declared}` for `{name}`"));
            }
            *live += result.memory();
            if *live > LIVE_BYTES {
                return Err(format!("its values take more than the `{LIVE_BYTES}` bytes that they may take"));
            }
            if watch(name, &result).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            values[*slot] = Some(Value::Tensor(result));
        }
        for slot in &step.drops {
            if let Some(Value::Tensor(tensor)) = values[*slot].take() {
                // The caller's inputs were not counted.
                *live = live.saturating_sub(tensor.memory());
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// A constant of a program by the name of its output, read a few rows at a time as single-precision numbers: compressed ones
/// expanded, not rounded to halves.
#[derive(Debug)]
pub struct WeightRows {
    path: PathBuf,
    name: String,
    value: Value,
}

impl Package {
    /// The constant whose output has this name in any function.
    pub fn weight(&self, name: &str) -> Result<WeightRows, MilError> {
        let unknown = || MilError::UnknownWeight { path: self.path().to_path_buf(), name: name.to_owned() };
        for function in self.functions().values() {
            let Ok(block) = block(function) else { continue };
            let find = |name: &str| {
                let makes = |operation: &&proto::Operation| operation.outputs.iter().any(|output| output.name == name);
                block.operations.iter().find(makes)
            };
            if find(name).is_none() {
                continue;
            }
            let inputs = signature::parameters_are_inputs(&function.opset);
            let value = self.constant(find, name, inputs, 4)?.ok_or_else(unknown)?;
            return Ok(WeightRows { path: self.path().to_path_buf(), name: name.to_owned(), value });
        }
        Err(unknown())
    }

    /// Names and types of the constants with at least `least` elements, in all functions.
    pub fn weights(&self, least: usize) -> Vec<(String, TensorType)> {
        let blocks = self.functions().values().filter_map(|function| block(function).ok());
        let operations = blocks.flat_map(|block| &block.operations);
        let constants = operations.filter(|operation| constant::is_constant(&operation.kind));
        let mut found: Vec<(String, TensorType)> = constants
            .flat_map(|operation| &operation.outputs)
            .filter_map(|output| Some((output.name.clone(), literal::tensor_type(output.kind.as_ref()).ok()?)))
            .filter(|(_, declared)| {
                declared.fixed().and_then(|shape| count_of(&shape)).is_some_and(|count| count >= least)
            })
            .collect();
        found.sort_by(|left, right| left.0.cmp(&right.0));
        found.dedup_by(|left, right| left.0 == right.0);
        found
    }

    /// Evaluates a constant and those that it is made from, which are a chain of at most `depth`.
    fn constant<'a>(
        &'a self,
        find: impl Fn(&str) -> Option<&'a proto::Operation> + Copy,
        name: &str,
        parameters_are_inputs: bool,
        depth: usize,
    ) -> Result<Option<Value>, MilError> {
        let Some(operation) = find(name).filter(|operation| constant::is_constant(&operation.kind)) else {
            return Ok(None);
        };
        let lookup = |name: &str| -> Option<Value> {
            let depth = depth.checked_sub(1)?;
            // `dyn` ends the recursion of types.
            let find: &dyn Fn(&str) -> Option<&'a proto::Operation> = &find;
            self.constant(find, name, parameters_are_inputs, depth).ok().flatten()
        };
        constant::evaluate(operation, parameters_are_inputs, self.files(), &lookup)
            .map_err(|fault| failure(self.path(), &operation.kind, name, fault.problem))
    }
}

impl WeightRows {
    /// Its shape; rows are the indices of the first dimension.
    pub fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    /// The type that the program sees.
    pub fn dtype(&self) -> ElementType {
        self.value.tensor_type().dtype
    }

    /// How many rows there are, and how many numbers are in each.
    pub fn extent(&self) -> (usize, usize) {
        let shape = self.shape();
        (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product())
    }

    /// Fills `out`, a whole number of rows, from the row `first` on.
    pub fn read(&self, first: usize, out: &mut [f32]) -> Result<(), MilError> {
        let read = match &self.value {
            Value::Weight(weight) if weight.dtype().class() != Class::Float => {
                Err("it has no floating-point type".to_owned())
            }
            Value::Weight(weight) => weight.read(first, out, false),
            Value::Tensor(tensor) => {
                let width = self.extent().1;
                let start = first.checked_mul(width);
                let range = start.and_then(|start| Some(start..start.checked_add(out.len())?));
                match (tensor.floats(), range) {
                    (Some(numbers), Some(range)) if range.end <= numbers.len() => {
                        out.copy_from_slice(&numbers[range]);
                        Ok(())
                    }
                    (Some(_), _) => Err(format!("row `{first}` and those after it are not all there")),
                    (None, _) => Err("it has no floating-point type".to_owned()),
                }
            }
        };
        read.map_err(|problem| failure(&self.path, "weight", &self.name, problem))
    }
}
