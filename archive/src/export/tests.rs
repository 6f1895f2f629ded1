mod footage;
mod layout;
mod played;
