//! Once the largest batch has been seen, a forward pass takes nothing from the allocator.

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use embedbar_kernels::{
    Isa,
    arena::Buffer,
    attention::{Attention, Columns, ColumnsMut, Plan, Scratch, Shape},
    elementwise::{Activation, exp, softmax},
    norm::{Norm, NormKind},
    rotary::{Angles, Heads, Rotary},
    team::{Options, Team},
};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread belongs to the forward pass, and not to what runs the tests.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    ALLOCATIONS.fetch_add(usize::from(IS_COUNTED.get()), Relaxed);
}

struct Counting;

// SAFETY: it passes everything on to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SHAPE: Shape = Shape { heads: 4, groups: 2, width: 32, causal: true, scale: 0.2 };
const WIDTH: usize = 128;

static COSINES: [f32; 16 * 300] = [0.8; 16 * 300];
static SINES: [f32; 16 * 300] = [0.6; 16 * 300];

#[derive(Default)]
struct Memory {
    plan: Plan,
    scratches: Vec<Scratch>,
    merged: Buffer<f32>,
    attended: Buffer<f32>,
    normalised: Buffer<f32>,
    quantised: Buffer<i8>,
}

/// About what a layer does between its products.
fn layer(isa: Isa, team: &Team, memory: &mut Memory, offsets: &[usize], positions: &[u32]) {
    let total = positions.len();
    let Memory { plan, scratches, merged, attended, normalised, quantised } = memory;
    let stride = 2 * WIDTH;
    let weight = [1.0; WIDTH];
    let angles = Angles { cosines: &COSINES, sines: &SINES };
    let heads = Heads { stride, column: 0, count: 6, width: 32 };
    let norm_of_head = Norm { kind: NormKind::RootMeanSquare, weight: &weight[..32], bias: None, epsilon: 1e-6 };
    Rotary { norm: Some(norm_of_head), angles }.apply(isa, merged.rows_mut(total, stride), heads, positions);

    plan.prepare(&SHAPE, offsets);
    let columns = |column| Columns { rows: merged.rows(total, stride), stride, column };
    let attention = Attention::new(plan, SHAPE, columns(0), columns(WIDTH), columns(WIDTH + 64));
    let rows = attended.rows_mut(total, WIDTH);
    attention.run_on(isa, team, &mut ColumnsMut { rows, stride: WIDTH, column: 0 }, scratches);

    let norm = Norm { kind: NormKind::Layer, weight: &weight, bias: Some(&weight), epsilon: 1e-6 };
    let rows = normalised.rows_mut(total, WIDTH);
    norm.apply(isa, attended.rows(total, WIDTH), rows);
    team.for_each_piece(rows, 8 * WIDTH, |_, rows| {
        Activation::Gelu.apply(isa, rows);
        exp(isa, rows);
        softmax(isa, rows, WIDTH);
    });
    quantised.rows_mut(total, WIDTH).fill(1);
}

#[test]
fn nothing_is_allocated_after_the_largest_batch() {
    let offsets: [&[usize]; 4] = [&[0, 100, 105, 300], &[0, 300], &[0, 1, 2, 3], &[0, 64, 128, 192]];
    let positions: Vec<u32> = (0..300).collect();
    for isa in Isa::available().collect::<Vec<_>>() {
        // Threads that go to sleep at once, and that do not.
        for spin in [std::time::Duration::ZERO, Options::default().spin] {
            let team = Team::new(3, Options { spin, ..Options::default() });
            let mut memory = Memory::default();
            memory.scratches.resize_with(3, Scratch::new);
            // A thread may miss a whole job, and with it the chance to make its scratch large enough.
            for scratch in &mut memory.scratches {
                scratch.reserve(&SHAPE);
            }
            let all = std::sync::Barrier::new(3);
            team.for_each(3, &|_, _| {
                IS_COUNTED.set(true);
                all.wait();
            });
            layer(isa, &team, &mut memory, offsets[0], &positions);
            let before = ALLOCATIONS.load(Relaxed);
            for _ in 0..10 {
                for offsets in offsets {
                    layer(isa, &team, &mut memory, offsets, &positions[..offsets[offsets.len() - 1]]);
                }
            }
            assert_eq!(ALLOCATIONS.load(Relaxed) - before, 0, "{isa:?}");
        }
    }
}
