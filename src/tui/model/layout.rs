//! Where things were drawn last, for clicks and page keys. Does not know what was drawn.

/// Where things are on the screen, as they were drawn last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The whole screen's size.
    pub size: (u16, u16),
    /// Rows of the fleet, and the first row of the screen with one.
    pub fleet: Area,
    /// Rows of the job's groups, or lines of its stream or output.
    pub job: Area,
    /// Lines of the preview below the groups.
    pub preview: Area,
    /// Panes of the grid: tasks in the places where they are.
    pub panes: Vec<(u32, Area)>,
    /// Panes in one row of the grid.
    pub pane_columns: usize,
    /// The command line.
    pub command: Area,
    /// Lines of what lies over the panes.
    pub overlay: Area,
    /// Where the terminal's cursor is.
    pub cursor: Option<(u16, u16)>,
    /// The preview is on the screen, of this task.
    pub shows_preview: bool,
    /// The group rows and the grid are both on the screen.
    pub shows_both: bool,
    /// The first row of the fleet that is on the screen.
    pub fleet_top: usize,
    /// The first row of the job.
    pub rows_top: usize,
    /// The first pane of the grid.
    pub first_pane: usize,
}

/// A part of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// The column at its left.
    pub x: u16,
    /// Its first row.
    pub y: u16,
    /// Its columns.
    pub width: u16,
    /// Its rows.
    pub height: u16,
}

impl Area {
    /// Whether a cell lies in it.
    #[must_use]
    pub fn has(&self, x: u16, y: u16) -> bool {
        (self.x..self.x.saturating_add(self.width)).contains(&x)
            && (self.y..self.y.saturating_add(self.height)).contains(&y)
    }

    /// Its rows, as a count.
    #[must_use]
    pub fn rows(&self) -> usize {
        usize::from(self.height)
    }
}
