//! The frame of a window that says none, said.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, NamedWindowDefinition, NamedWindowExpr, Select, Statement, VisitMut, VisitorMut, WindowFrame,
    WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};

/// Writes out what the SQL standard has for a window with an order and no frame (SQL:2016, 7.15): the rows up to the current
/// one and those that are equal to it. The engine takes rows one by one where it believes that none are equal, and believes
/// so of the rows of a `from` before they are grouped.
pub(super) fn say(statement: &mut Statement) {
    let ControlFlow::Continue(()) = statement.visit(&mut Frames);
}

struct Frames;

impl VisitorMut for Frames {
    type Break = std::convert::Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        for NamedWindowDefinition(_, window) in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(spec) = window {
                say_frame(spec);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(call) = expr
            && let Some(WindowType::WindowSpec(spec)) = &mut call.over
        {
            say_frame(spec);
        }
        ControlFlow::Continue(())
    }
}

fn say_frame(spec: &mut WindowSpec) {
    if spec.order_by.is_empty() || spec.window_frame.is_some() {
        return;
    }
    spec.window_frame = Some(WindowFrame {
        units: WindowFrameUnits::Range,
        start_bound: WindowFrameBound::Preceding(None),
        end_bound: Some(WindowFrameBound::CurrentRow),
    });
}
