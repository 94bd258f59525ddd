//! The topology is one whole: whatever an operator deletes comes back with all that is bound to it, or is
//! named.

mod doctor;
mod put_back;
mod roles;
mod stage;
mod unseen;
