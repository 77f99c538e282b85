//! The messaging hub: a self-hosted message router. See ARCHITECTURE.md for the rooms and how a message travels.

pub mod app;
pub mod cluster;
pub mod demo;
pub mod doctor;
pub mod http;
pub mod maintenance;
pub mod media;
pub mod platforms;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod vault;
pub mod views;
pub mod ws;
