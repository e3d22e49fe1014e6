//! Tables of states and the commands that must follow.
