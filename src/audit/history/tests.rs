//! The history as a whole, on a real disk.

mod damage;
mod model;
mod pages;
mod scale;
mod scene;
mod upgrade;

use scene::{Scene, record};
