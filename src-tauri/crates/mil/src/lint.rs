//! What is wrong with a package: the rules of Apple's open validators, of coremltools' loader, and those that the loader does
//! not check though something on the way to a Mac depends on them. A package without a finding is not proved to load; one
//! with a finding is not to be shipped.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::blob::{ALIGNMENT, BlobFile, SENTINEL};
use crate::constant::{self, Value};
use crate::element::ElementType;
use crate::infer::{self, Operand, Operands, compatible};
use crate::literal::{self, TensorType};
use crate::package::{Package, values};
use crate::proto::{self, Bound, Content};
use crate::signature::{self, Need, Opset};
use crate::tensor::Tensor;

/// Something that is wrong with a package.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// A stable name of the rule.
    pub code: &'static str,
    /// What breaks it, with its values.
    pub message: String,
}

/// Constants of at most so many elements are looked into: axes, shapes, orders of axes.
const PARAMETERS: usize = 1 << 10;
/// A weight file has no more blobs; the walk over it ends there.
const BLOBS: usize = 1 << 20;

impl Package {
    /// Everything that is wrong with the package, as far as it can be found without Core ML.
    pub fn lint(&self) -> Vec<Finding> {
        let mut judge = Judge { package: self, findings: Vec::new() };
        judge.versions();
        judge.interface();
        judge.weight_files();
        for (name, function) in self.functions() {
            judge.function(name, function);
        }
        judge.findings
    }
}

struct Judge<'a> {
    package: &'a Package,
    findings: Vec<Finding>,
}

/// A value within a function.
#[derive(Clone)]
struct Defined {
    /// `None` where its declaration cannot be read.
    tensor_type: Option<TensorType>,
    value: Option<Value>,
}

impl<'a> Judge<'a> {
    fn find(&mut self, code: &'static str, message: impl Into<String>) {
        self.findings.push(Finding { code, message: message.into() });
    }

    /// Specification, opsets, and which functions there are.
    fn versions(&mut self) {
        let model = self.package.model();
        let functions = self.package.functions();
        let version = model.specification_version;
        if let Some(program) = &model.ml_program
            && program.version != 1
        {
            self.find("program-version", format!("the program has the version `{}`; `1` is known", program.version));
        }
        let mut newest = None;
        for (name, function) in functions {
            let opset = &function.opset;
            match Opset::from_name(opset) {
                None => self.find("unknown-opset", format!("`{name}` has the opset `{opset}`")),
                known => newest = newest.max(known),
            }
            if !function.block_specializations.contains_key(opset) {
                let keys: Vec<&String> = function.block_specializations.keys().collect();
                self.find("opset-without-block", format!("`{name}` has the opset `{opset}` and blocks for `{keys:?}`"));
            }
            if !is_identifier(name) {
                self.find("bad-identifier", format!("`{name}` is no name of a function"));
            }
        }
        if let Some(newest) = newest
            && newest.specification() != version
        {
            let right = newest.specification();
            let message =
                format!("the specification has the version `{version}`; the opset `{newest:?}` goes with `{right}`");
            self.find("specification-version", message);
        }
        if functions.is_empty() {
            self.find("no-function", "the program has no function");
        } else if !functions.contains_key(self.package.default_function()) {
            let default = self.package.default_function();
            self.find("no-default-function", format!("there is no function `{default}`"));
        }
    }

    /// The description of inputs and outputs, by itself and against the functions.
    fn interface(&mut self) {
        let model = self.package.model();
        let Some(description) = &model.description else {
            self.find("no-description", "the model has no description of its inputs and outputs");
            return;
        };
        let several = !description.functions.is_empty();
        if several {
            if !description.input.is_empty() || !description.output.is_empty() {
                self.find(
                    "interface-mismatch",
                    "a model with several functions describes inputs and outputs outside them",
                );
            }
            let described: BTreeSet<&String> = description.functions.iter().map(|function| &function.name).collect();
            let there: BTreeSet<&String> = self.package.functions().keys().collect();
            if described != there || described.len() != description.functions.len() {
                self.find("interface-mismatch", format!("the functions `{there:?}` are described as `{described:?}`"));
            }
            if model.specification_version < 9 {
                self.find("specification-version", "several functions need the version `9` of the specification");
            }
        }
        for (name, function) in self.package.functions() {
            let (inputs, outputs) = self.package.interface(name);
            self.features(name, "input", inputs);
            self.features(name, "output", outputs);
            let found = function.inputs.iter().map(|input| (input.name.as_str(), input.kind.as_ref()));
            self.compare(name, "input", inputs, &found.collect::<Vec<_>>());
            let Some(block) = function.block_specializations.get(&function.opset) else { continue };
            let declared: HashMap<&str, Option<&proto::ValueType>> = block
                .operations
                .iter()
                .flat_map(|operation| &operation.outputs)
                .chain(&function.inputs)
                .map(|output| (output.name.as_str(), output.kind.as_ref()))
                .collect();
            let found =
                block.outputs.iter().map(|name| (name.as_str(), declared.get(name.as_str()).copied().flatten()));
            self.compare(name, "output", outputs, &found.collect::<Vec<_>>());
            let enumerated = inputs.iter().filter(|input| {
                array(input)
                    .and_then(|array| array.enumerated_shapes.as_ref())
                    .is_some_and(|them| them.shapes.len() > 1)
            });
            if enumerated.count() > 1 && model.specification_version < 9 {
                let message =
                    format!("`{name}` has several inputs with enumerated shapes, which need the specification `9`");
                self.find("specification-version", message);
            }
        }
    }

    /// Rules of the validator of interfaces, which is open.
    fn features(&mut self, function: &str, side: &str, features: &[proto::FeatureDescription]) {
        let version = self.package.model().specification_version;
        for feature in features {
            let name = &feature.name;
            let place = format!("the {side} `{name}` of `{function}`");
            if !is_identifier(name) {
                self.find("bad-identifier", format!("{place} has no valid name"));
            }
            let Some(array) = array(feature) else {
                self.find("interface-type", format!("{place} is no array"));
                continue;
            };
            match ElementType::from_interface(array.data_type) {
                None => self.find("interface-type", format!("{place} has the unknown type `{}`", array.data_type)),
                Some(ElementType::Float16) if version < 7 => {
                    self.find("specification-version", format!("{place} is `fp16`, which needs the specification `7`"));
                }
                Some(ElementType::Int8) if version < 10 => {
                    self.find(
                        "specification-version",
                        format!("{place} is `int8`, which needs the specification `10`"),
                    );
                }
                Some(_) => {}
            }
            let shapes = array.enumerated_shapes.as_ref().map_or(&[][..], |shapes| &shapes.shapes);
            let ranges = array.shape_range.as_ref().map_or(&[][..], |range| &range.size_ranges);
            if side == "input" && array.shape.is_empty() && shapes.is_empty() && ranges.is_empty() {
                self.find("input-without-shape", format!("{place} has no shape"));
            }
            if array.shape.iter().any(|size| *size < 1) {
                self.find("interface-shape", format!("{place} has the shape `{:?}`", array.shape));
            }
            if !shapes.is_empty() && !array.shape.is_empty() && !shapes.iter().any(|shape| shape.shape == array.shape) {
                let message =
                    format!("{place} has the default shape `{:?}`, which is not one of those allowed", array.shape);
                self.find("default-shape", message);
            }
            let within = |(size, range): (&i64, &proto::SizeRange)| {
                u64::try_from(*size).is_ok_and(|size| size >= range.lower_bound)
                    && (range.upper_bound < 0 || *size <= range.upper_bound)
            };
            if !ranges.is_empty()
                && !array.shape.is_empty()
                && (ranges.len() != array.shape.len() || !array.shape.iter().zip(ranges).all(within))
            {
                self.find(
                    "default-shape",
                    format!("{place} has the default shape `{:?}`, which is out of range", array.shape),
                );
            }
        }
    }

    fn compare(
        &mut self,
        function: &str,
        side: &str,
        described: &[proto::FeatureDescription],
        found: &[(&str, Option<&proto::ValueType>)],
    ) {
        let names: Vec<&str> = described.iter().map(|feature| feature.name.as_str()).collect();
        let there: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        let sorted = |names: &[&str]| {
            let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            names.sort();
            names
        };
        if sorted(&names) != sorted(&there) {
            let message = format!("`{function}` has the {side}s `{there:?}` and is described with `{names:?}`");
            self.find("interface-mismatch", message);
        }
        for feature in described {
            let Some((_, Some(kind))) = found.iter().find(|(name, _)| *name == feature.name) else { continue };
            let (Some(array), Ok(declared)) = (array(feature), literal::tensor_type(Some(kind))) else { continue };
            let place = format!("the {side} `{}` of `{function}`", feature.name);
            let dtype = ElementType::from_interface(array.data_type);
            if dtype.is_some_and(|dtype| dtype != declared.dtype) {
                let described = dtype.map_or("nothing", ElementType::name);
                self.find("interface-mismatch", format!("{place} is `{declared}` and is described as `{described}`"));
            }
            let fits = |shape: &[i64]| {
                shape.len() == declared.shape.len()
                    && shape
                        .iter()
                        .zip(&declared.shape)
                        .all(|(size, declared)| declared.is_none_or(|declared| i64::try_from(declared) == Ok(*size)))
            };
            let enumerated = array.enumerated_shapes.iter().flat_map(|shapes| &shapes.shapes).map(|shape| &shape.shape);
            // Outputs of flexible models are described without a shape.
            for shape in enumerated.chain([&array.shape]).filter(|shape| !shape.is_empty()) {
                if !fits(shape) {
                    let message = format!("{place} is `{declared}` and is described with the shape `{shape:?}`");
                    self.find("interface-mismatch", message);
                }
            }
            if side == "input"
                && declared.fixed().is_none()
                && array.enumerated_shapes.is_none()
                && array.shape_range.is_none()
            {
                self.find(
                    "interface-mismatch",
                    format!("{place} is `{declared}` and its description allows one shape only"),
                );
            }
        }
    }

    /// The headers of weight files, and that every blob in them is one that the program names.
    fn weight_files(&mut self) {
        let mut named: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for value in values(self.package.model()) {
            if let Some(Content::Blob(reference)) = &value.content {
                named.entry(&reference.file_name).or_default().insert(reference.offset);
            }
        }
        for (name, file) in self.package.files().all() {
            match file {
                Err(problem) => self.find("weight-file", format!("`{name}`: {problem}")),
                Ok(file) => self.weight_file(name, file, named.get(name).unwrap_or(&BTreeSet::new())),
            }
        }
    }

    fn weight_file(&mut self, name: &str, file: &BlobFile, named: &BTreeSet<u64>) {
        let (count, version) = match file.header() {
            Ok(header) => header,
            Err(problem) => {
                self.find("weight-header", format!("`{name}` has no header: {problem}"));
                return;
            }
        };
        if version != 2 {
            self.find("weight-header", format!("`{name}` has the version `{version}`; `2` is right"));
        }
        let mut found = BTreeSet::new();
        let mut offset = ALIGNMENT;
        while offset < file.length() && found.len() < BLOBS {
            let Ok(entry) = file.entry(offset) else { break };
            if entry.sentinel != SENTINEL {
                break;
            }
            found.insert(offset);
            let place = format!("the blob at `{offset}` of `{name}`");
            if entry.start != offset + ALIGNMENT {
                self.find("blob-start", format!("{place} says that it begins at `{}`", entry.start));
            }
            let unused = ElementType::from_blob(entry.dtype).map(|dtype| dtype.bits() as u64);
            if unused.is_some_and(|bits| entry.padding_bits >= 8 || bits >= 8 && entry.padding_bits != 0) {
                self.find("blob-padding", format!("{place} says that `{}` bits of it are unused", entry.padding_bits));
            }
            let end = entry.start.checked_add(entry.size).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
            match end {
                Some(end) if end > offset => offset = end,
                _ => break,
            }
        }
        if found.len() as u64 != u64::from(count) {
            let message = format!("`{name}` says that it has `{count}` blobs; `{}` follow one another", found.len());
            self.find("weight-count", message);
        }
        for offset in named.difference(&found) {
            self.find("blob-offset", format!("the program names a blob at `{offset}` of `{name}`, where none begins"));
        }
        for offset in found.difference(named) {
            self.find("blob-unused", format!("the program does not name the blob at `{offset}` of `{name}`"));
        }
    }

    fn function(&mut self, name: &'a str, function: &'a proto::Function) {
        let Some(block) = function.block_specializations.get(&function.opset) else { return };
        let opset = Opset::from_name(&function.opset);
        let mut scope: HashMap<&'a str, Defined> = HashMap::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        for input in &function.inputs {
            let tensor_type = self.declared(&format!("the input `{}` of `{name}`", input.name), input);
            self.define(&mut scope, name, &input.name, Defined { tensor_type, value: None });
        }
        let later: BTreeSet<&str> = block
            .operations
            .iter()
            .flat_map(|operation| &operation.outputs)
            .map(|output| output.name.as_str())
            .collect();
        for operation in &block.operations {
            let output = operation.outputs.first().map_or("", |output| output.name.as_str());
            let place = format!("`{}` for `{output}` in `{name}`", operation.kind);
            self.operation_name(&place, operation, &mut names);
            let types: Vec<Option<TensorType>> =
                operation.outputs.iter().map(|output| self.declared(&place, output)).collect();
            if operation.outputs.is_empty() {
                self.find("no-output", format!("{place} has no output"));
            }
            let value = if constant::is_constant(&operation.kind) {
                self.constant(&place, operation, opset, &scope, types.first().cloned().flatten())
            } else {
                self.operation(&place, operation, opset, &scope, &later, &types);
                None
            };
            for (output, tensor_type) in operation.outputs.iter().zip(types) {
                self.define(&mut scope, name, &output.name, Defined { tensor_type, value: value.clone() });
            }
        }
        if block.outputs.is_empty() {
            self.find("missing-output", format!("`{name}` has no output"));
        }
        for output in &block.outputs {
            if !scope.contains_key(output.as_str()) {
                self.find("missing-output", format!("the output `{output}` of `{name}` is not made by anything"));
            }
        }
    }

    fn define(&mut self, scope: &mut HashMap<&'a str, Defined>, function: &str, name: &'a str, defined: Defined) {
        if !is_identifier(name) {
            self.find("bad-identifier", format!("`{name}` in `{function}` is no name of a value"));
        }
        if scope.insert(name, defined).is_some() {
            self.find("duplicate-name", format!("`{name}` in `{function}` is defined twice"));
        }
    }

    fn declared(&mut self, place: &str, value: &proto::NamedValueType) -> Option<TensorType> {
        match literal::tensor_type(value.kind.as_ref()) {
            Ok(tensor_type) => Some(tensor_type),
            Err(problem) => {
                self.find("bad-type", format!("{place}: `{}`: {problem}", value.name));
                None
            }
        }
    }

    /// Every operation has a name of its own as an attribute.
    fn operation_name(&mut self, place: &str, operation: &proto::Operation, names: &mut BTreeSet<String>) {
        let name = operation.attributes.get("name").and_then(|value| literal::tensor(value).ok());
        let name = name.as_ref().and_then(Tensor::texts).and_then(|texts| texts.first());
        match name {
            None => self.find("operation-without-name", format!("{place} has no attribute `name`")),
            Some(name) => {
                if !is_identifier(name) {
                    self.find("bad-identifier", format!("{place} is called `{name}`"));
                }
                if !names.insert(name.clone()) {
                    self.find("duplicate-name", format!("{place} is called `{name}` as another operation is"));
                }
            }
        }
    }

    fn constant(
        &mut self,
        place: &str,
        operation: &proto::Operation,
        opset: Option<Opset>,
        scope: &HashMap<&str, Defined>,
        declared: Option<TensorType>,
    ) -> Option<Value> {
        self.since(place, operation, opset);
        let parameters_are_inputs = opset.is_some_and(|opset| opset >= Opset::CoreML8);
        let lookup = |name: &str| scope.get(name).and_then(|defined| defined.value.clone());
        let found = constant::evaluate(operation, parameters_are_inputs, self.package.files(), &lookup);
        let value = match found {
            Ok(Some(value)) => value,
            Ok(None) => {
                self.find("unknown-operation", format!("{place} is not known"));
                return None;
            }
            Err(fault) => {
                self.find(fault.code, format!("{place}: {}", fault.problem));
                return None;
            }
        };
        if operation.kind == "const" && !operation.inputs.is_empty() {
            self.find("unknown-input", format!("{place} has inputs; a constant has none"));
        }
        if operation.outputs.len() > 1 {
            self.find("type-mismatch", format!("{place} has several outputs"));
        }
        let made = value.tensor_type();
        if let Some(declared) = declared
            && made != declared
        {
            let code = if operation.kind == "const" { "type-mismatch" } else { "constexpr-type" };
            self.find(code, format!("{place} is declared as `{declared}` and holds `{made}`"));
        }
        Some(value)
    }

    fn since(&mut self, place: &str, operation: &proto::Operation, opset: Option<Opset>) {
        if let (Some((since, _)), Some(opset)) = (signature::of(&operation.kind), opset)
            && since > opset
        {
            self.find(
                "operation-too-new",
                format!("{place} needs the opset `{since:?}`; the function has `{opset:?}`"),
            );
        }
    }

    fn operation(
        &mut self,
        place: &str,
        operation: &proto::Operation,
        opset: Option<Opset>,
        scope: &HashMap<&str, Defined>,
        later: &BTreeSet<&str>,
        types: &[Option<TensorType>],
    ) {
        let Some((_, parameters)) = signature::of(&operation.kind) else {
            self.find("unknown-operation", format!("{place} is not known"));
            return;
        };
        self.since(place, operation, opset);
        let opset = opset.unwrap_or(Opset::CoreML9);
        for name in operation.inputs.keys() {
            match parameters.iter().find(|parameter| parameter.name == name) {
                None => self.find("unknown-input", format!("{place} has the input `{name}`, which is not known")),
                Some(parameter) if parameter.since > opset => {
                    let since = parameter.since;
                    self.find(
                        "unknown-input",
                        format!("{place} has the input `{name}`, which needs the opset `{since:?}`"),
                    );
                }
                Some(_) => {}
            }
        }
        for parameter in parameters.iter().filter(|parameter| parameter.since <= opset) {
            let name = parameter.name;
            let given = operation.inputs.get(name).is_some_and(|argument| !argument.arguments.is_empty());
            match parameter.need {
                Need::Required if !given => self.find("missing-input", format!("{place} has no `{name}`")),
                Need::Written if !given => {
                    self.find("omitted-input", format!("{place} leaves out `{name}`, which coremltools always writes"));
                }
                _ => {}
            }
        }
        if let Some(name) = operation.attributes.keys().find(|name| *name != "name") {
            self.find("unknown-attribute", format!("{place} has the attribute `{name}`; parameters are inputs"));
        }
        let mut operands = BTreeMap::new();
        let mut whole = true;
        for (input, argument) in &operation.inputs {
            let mut list = Vec::new();
            for binding in &argument.arguments {
                match self.operand(place, input, binding, scope, later) {
                    Some(operand) => list.push(operand),
                    None => whole = false,
                }
            }
            operands.insert(input.clone(), list);
        }
        if whole {
            self.types(place, operation, &Operands(operands), types);
        }
    }

    fn operand(
        &mut self,
        place: &str,
        input: &str,
        binding: &proto::Binding,
        scope: &HashMap<&str, Defined>,
        later: &BTreeSet<&str>,
    ) -> Option<Operand> {
        match &binding.bound {
            Some(Bound::Name(name)) => {
                let Some(defined) = scope.get(name.as_str()) else {
                    let (code, when) = if later.contains(name.as_str()) {
                        ("used-before-defined", "is defined later")
                    } else {
                        ("undefined-name", "is not defined")
                    };
                    self.find(code, format!("{place}: `{input}` is `{name}`, which {when}"));
                    return None;
                };
                let constant = match &defined.value {
                    Some(Value::Tensor(tensor)) if tensor.count() <= PARAMETERS => Some(tensor.clone()),
                    _ => None,
                };
                Some(Operand { tensor_type: defined.tensor_type.clone()?, constant })
            }
            Some(Bound::Value(value)) => match constant::value_of(value, self.package.files()) {
                Ok(value) => {
                    let tensor_type = value.tensor_type();
                    let constant = match value {
                        Value::Tensor(tensor) => Some(tensor),
                        Value::Weight(_) => None,
                    };
                    Some(Operand { tensor_type, constant })
                }
                Err(fault) => {
                    self.find(fault.code, format!("{place}: `{input}`: {}", fault.problem));
                    None
                }
            },
            None => {
                self.find("missing-input", format!("{place}: `{input}` is bound to nothing"));
                None
            }
        }
    }

    fn types(
        &mut self,
        place: &str,
        operation: &proto::Operation,
        operands: &Operands,
        declared: &[Option<TensorType>],
    ) {
        let made = match infer::infer(&operation.kind, operands) {
            Ok(Some(made)) => made,
            Ok(None) => return,
            Err(problem) => {
                self.find("type-mismatch", format!("{place}: {problem}"));
                return;
            }
        };
        if made.len() != declared.len() {
            self.find(
                "type-mismatch",
                format!("{place} makes `{}` results and declares `{}`", made.len(), declared.len()),
            );
        }
        for (made, declared) in made.iter().zip(declared) {
            if let Some(declared) = declared
                && !compatible(made, declared)
            {
                self.find("type-mismatch", format!("{place} makes `{made}` and declares `{declared}`"));
            }
        }
    }
}

fn array(feature: &proto::FeatureDescription) -> Option<&proto::ArrayFeatureType> {
    feature.kind.as_ref()?.multi_array.as_ref()
}

/// `[A-Za-z_][A-Za-z0-9_@]*`
fn is_identifier(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_language() {
        for good in ["a", "_1", "x_0_cast@fp16", "var_6614"] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", "1a", "a-b", "a.b", "a b", "@a", "é"] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }
}
