//! Where a window goes on a monitor: arithmetic only, in physical pixels.

/// A place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// An extent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Between a window and what it is near to.
const GAP: f64 = 6.0;

/// Below the tray icon where its place is known, in the upper right corner of the work area where not.
pub(super) fn panel(icon: Option<Area>, area: Area, size: Size) -> Point {
    let wanted = match icon {
        Some(icon) => Point { x: icon.x + (icon.width - size.width) / 2.0, y: icon.y + icon.height + GAP },
        None => Point { x: area.x + area.width - size.width - GAP, y: area.y + GAP },
    };
    inside(wanted, area, size)
}

/// Centred, a quarter down: where the eye rests.
pub(super) fn search(area: Area, size: Size) -> Point {
    let wanted = Point { x: area.x + (area.width - size.width) / 2.0, y: area.y + (area.height - size.height) / 4.0 };
    inside(wanted, area, size)
}

/// The nearest place at which the window is wholly visible; its upper left corner if it is larger than the area.
fn inside(wanted: Point, area: Area, size: Size) -> Point {
    Point {
        x: wanted.x.min(area.x + area.width - size.width).max(area.x),
        y: wanted.y.min(area.y + area.height - size.height).max(area.y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAPTOP: Area = Area { x: 0.0, y: 25.0, width: 1440.0, height: 875.0 };
    const PANEL: Size = Size { width: 380.0, height: 600.0 };

    #[test]
    fn the_panel_hangs_below_the_middle_of_its_icon() {
        let icon = Area { x: 1000.0, y: 0.0, width: 24.0, height: 25.0 };
        assert_eq!(panel(Some(icon), LAPTOP, PANEL), Point { x: 822.0, y: 31.0 });
    }

    #[test]
    fn a_panel_whose_icon_is_near_the_edge_stays_on_the_monitor() {
        let icon = Area { x: 1410.0, y: 0.0, width: 24.0, height: 25.0 };
        assert_eq!(panel(Some(icon), LAPTOP, PANEL), Point { x: 1440.0 - 380.0, y: 31.0 });
    }

    #[test]
    fn a_panel_without_an_icon_is_in_the_upper_right_corner_of_its_own_monitor() {
        let second = Area { x: -1920.0, y: 40.0, width: 1920.0, height: 1040.0 };
        assert_eq!(panel(None, second, PANEL), Point { x: -386.0, y: 46.0 });
    }

    #[test]
    fn a_window_larger_than_the_monitor_keeps_its_upper_left_corner_visible() {
        let small = Area { x: 10.0, y: 20.0, width: 300.0, height: 200.0 };
        assert_eq!(search(small, PANEL), Point { x: 10.0, y: 20.0 });
    }

    #[test]
    fn the_search_window_is_centred_in_the_upper_part() {
        let place = search(LAPTOP, Size { width: 720.0, height: 475.0 });
        assert_eq!(place, Point { x: 360.0, y: 125.0 });
    }
}
