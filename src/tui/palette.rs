//! Palettes: the colours of each meaning, on their own background or on that of the terminal.

use std::str::FromStr;

/// A colour: red, green and blue.
pub(crate) type Rgb = [u8; 3];

/// A set of colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    /// The sixteen colours and the background of the terminal.
    #[default]
    Terminal,
    /// Light on dark.
    Dark,
    /// Dark on light.
    Light,
    /// Black, white and bright colours.
    HighContrast,
}

/// The colours of a palette that has a background of its own. They are colours of the 256, so that they look the same where
/// there are no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Colours {
    pub back: Rgb,
    pub plain: Rgb,
    pub good: Rgb,
    pub bad: Rgb,
    pub waiting: Rgb,
    pub running: Rgb,
    pub dim: Rgb,
    pub key: Rgb,
    /// The background of what is marked, whose text is black.
    pub marked: Rgb,
    /// The names of agents.
    pub names: [Rgb; 6],
}

const DARK: Colours = Colours {
    back: [28, 28, 28],
    plain: [215, 215, 215],
    good: [95, 215, 95],
    bad: [255, 135, 135],
    waiting: [255, 215, 95],
    running: [95, 215, 215],
    dim: [175, 175, 175],
    key: [135, 215, 255],
    marked: [255, 215, 95],
    names: [
        [95, 215, 215],
        [215, 175, 95],
        [215, 135, 255],
        [135, 215, 135],
        [135, 175, 255],
        [255, 175, 175],
    ],
};

const LIGHT: Colours = Colours {
    back: [255, 255, 255],
    plain: [0, 0, 0],
    good: [0, 95, 0],
    bad: [175, 0, 0],
    waiting: [135, 95, 0],
    running: [0, 95, 135],
    dim: [95, 95, 95],
    key: [0, 95, 175],
    marked: [255, 215, 95],
    names: [[0, 95, 135], [135, 95, 0], [135, 0, 135], [0, 95, 0], [0, 0, 175], [135, 0, 0]],
};

const HIGH_CONTRAST: Colours = Colours {
    back: [0, 0, 0],
    plain: [255, 255, 255],
    good: [95, 255, 95],
    bad: [255, 135, 135],
    waiting: [255, 255, 95],
    running: [95, 255, 255],
    dim: [215, 215, 215],
    key: [255, 255, 255],
    marked: [255, 255, 95],
    names: [
        [95, 255, 255],
        [255, 255, 95],
        [255, 175, 255],
        [135, 255, 135],
        [175, 215, 255],
        [255, 215, 215],
    ],
};

impl Palette {
    /// All palettes, in the order in which the next one is chosen.
    pub const ALL: [Self; 4] = [Self::Terminal, Self::Dark, Self::Light, Self::HighContrast];

    /// Returns the word for the palette in the settings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Dark => "dark",
            Self::Light => "light",
            Self::HighContrast => "high-contrast",
        }
    }

    /// Returns the next palette.
    #[must_use]
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|palette| *palette == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    /// Returns the colours; `None` if they are those of the terminal.
    #[must_use]
    pub(crate) fn colours(self) -> Option<&'static Colours> {
        match self {
            Self::Terminal => None,
            Self::Dark => Some(&DARK),
            Self::Light => Some(&LIGHT),
            Self::HighContrast => Some(&HIGH_CONTRAST),
        }
    }
}

impl FromStr for Palette {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = || Self::ALL.map(Self::word).join(", ");
        let found = Self::ALL.into_iter().find(|palette| palette.word() == text);
        found.ok_or_else(|| format!("{text:?} is not a theme: write one of {}", words()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relative luminance of a colour, as WCAG 2 defines it.
    fn luminance(colour: Rgb) -> f64 {
        let linear = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let [red, green, blue] = colour.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    fn contrast(a: Rgb, b: Rgb) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_colour_is_readable_on_its_background() {
        for palette in Palette::ALL {
            let Some(colours) = palette.colours() else { continue };
            // WCAG 2.1 asks for 4.5 (AA), and for 7 in a palette for those who need more (AAA).
            let least = if palette == Palette::HighContrast { 7.0 } else { 4.5 };
            let Colours { plain, good, bad, waiting, running, dim, key, .. } = *colours;
            for colour in [plain, good, bad, waiting, running, dim, key].into_iter().chain(colours.names) {
                let found = contrast(colour, colours.back);
                assert!(found >= least, "{palette:?} {colour:?}: {found:.1}");
            }
            assert!(contrast([0, 0, 0], colours.marked) >= least);
        }
    }

    #[test]
    fn a_palette_is_read_by_its_word() {
        for palette in Palette::ALL {
            assert_eq!(palette.word().parse(), Ok(palette));
        }
        assert!("solarized".parse::<Palette>().unwrap_err().contains("terminal, dark, light, high-contrast"));
    }
}
