//! The layout of the last frame, for clicks and page keys. Independent of the contents.

use crate::tui::output::rows::Position;

/// The positions of everything on the screen in the last frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The size of the whole screen.
    pub size: (u16, u16),
    /// The rows of the fleet, without the headings.
    pub fleet: Area,
    /// The rows of the job's groups, or the lines of its stream or output.
    pub job: Area,
    /// The lines of the preview below the groups.
    pub preview: Area,
    /// What is at the top of the preview.
    pub preview_top: Position,
    /// The panes of the grid, each with the index of its task.
    pub panes: Vec<(u32, Area)>,
    /// The number of panes in a row of the grid.
    pub pane_columns: usize,
    /// The text of the command line.
    pub command: Area,
    /// The lines of the layer over the panes.
    pub overlay: Area,
    /// The index of its first visible line.
    pub overlay_top: usize,
    /// The position of the terminal's cursor; `None` if it is hidden.
    pub cursor: Option<(u16, u16)>,
    /// What has the attention, where no cursor is shown: the terminal's hidden cursor stands there, for screen readers and
    /// magnifiers.
    pub point: Option<(u16, u16)>,
    /// Whether the preview of the row under the cursor is shown.
    pub shows_preview: bool,
    /// Whether the rows of the groups and the grid are both shown.
    pub shows_both: bool,
    /// The index of the first visible row of the fleet.
    pub fleet_top: usize,
    /// The index of the first visible row of the job.
    pub rows_top: usize,
    /// The index of the first visible pane of the grid.
    pub first_pane: usize,
}

/// A rectangle on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// The leftmost column.
    pub x: u16,
    /// The first row.
    pub y: u16,
    /// The number of columns.
    pub width: u16,
    /// The number of rows.
    pub height: u16,
}

impl Area {
    /// Reports whether a cell is in the rectangle.
    #[must_use]
    pub fn has(&self, x: u16, y: u16) -> bool {
        (self.x..self.x.saturating_add(self.width)).contains(&x)
            && (self.y..self.y.saturating_add(self.height)).contains(&y)
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        usize::from(self.height)
    }
}
