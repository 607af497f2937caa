use editmgt_core::{AttentionConsolidator, AttentionMaps, GridSize};

use super::{Case, Checked, ContractViolation, is_shape, is_value, uniforms};

/// Panics with the broken rule: see [`check_consolidator`].
///
/// # Panics
/// When a rule is broken.
#[track_caller]
pub fn assert_consolidator_contract(consolidator: &dyn AttentionConsolidator) {
    if let Err(violation) = check_consolidator(consolidator) {
        panic!("{violation}");
    }
}

/// Checks an [`AttentionConsolidator`]: any number of layers, items and cells becomes one finite
/// score per token and item; the same maps give the same scores; items are consolidated by
/// themselves; no layers, no cells and NaN are refused.
///
/// # Errors
/// The first broken rule.
pub fn check_consolidator(consolidator: &dyn AttentionConsolidator) -> Checked {
    let (small, wide) = (GridSize::new(4, 4), GridSize::new(3, 5));
    for (layers, items, cells, target) in [
        (1, 1, small, small),
        (3, 2, small, GridSize::new(8, 8)),
        (2, 3, wide, GridSize::new(6, 10)),
        (2, 1, wide, GridSize::new(5, 9)),
        (1, 1, GridSize::new(1, 1), GridSize::new(2, 2)),
    ] {
        let name = format!("{layers} layers, {items} items, {cells} cells to {target} tokens");
        let case = Case(&name);
        let values = uniforms(3, layers * items * cells.len());
        let maps = attention(case, layers, items, cells, values.clone())?;
        let scores = consolidator.consolidate(&maps, target);
        let scores = case.succeeds("any grid and any layers are consolidated", scores)?;
        let shape = (scores.batch(), scores.size());
        case.require("there is one map per item", shape == (items, target), shape)?;
        let finite = scores.values().iter().all(|score| score.is_finite());
        case.require("scores are finite", finite, scores.values())?;
        let again =
            case.succeeds("maps are accepted twice", consolidator.consolidate(&maps, target))?;
        case.require("the same maps give the same scores", scores == again, "other scores")?;
        for item in 0..items {
            let own = (0..layers).flat_map(|layer| maps.map(layer, item).to_vec()).collect();
            let own = attention(case, layers, 1, cells, own)?;
            let own =
                case.succeeds("one item is consolidated", consolidator.consolidate(&own, target))?;
            case.require("items are independent", own.values() == scores.image(item), item)?;
        }
        let mut spoiled = values;
        spoiled[0] = f32::NAN;
        let spoiled = attention(case, layers, items, cells, spoiled)?;
        let result = consolidator.consolidate(&spoiled, target);
        case.refuses("NaN attention is refused as a value", result, is_value)?;
    }
    let case = Case("nothing");
    let none = attention(case, 0, 1, small, vec![])?;
    let result = consolidator.consolidate(&none, small);
    case.refuses("no layers are refused as a shape", result, is_shape)?;
    let empty = attention(case, 1, 1, GridSize::new(0, 4), vec![])?;
    let result = consolidator.consolidate(&empty, small);
    case.refuses("no cells are refused as a shape", result, is_shape)
}

fn attention(
    case: Case<'_>,
    layers: usize,
    items: usize,
    cells: GridSize,
    values: Vec<f32>,
) -> Result<AttentionMaps, ContractViolation> {
    let blocks = (0..layers).collect();
    case.succeeds("maps of this extent are valid", AttentionMaps::new(blocks, items, cells, values))
}
