//! Topics: SHA-256 of a small JSON text (`kachery-p2p-daemon`, `HyperswarmConnection`).

use sha2::{Digest, Sha256};

use super::{NodeId, Protocol, Style, json};
use hyperswarm::Topic;

/// What a swarm is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Seeking and providing in the channel of this name.
    Channel(String),
    /// Downloads from this node.
    Transfer(NodeId),
}

impl Purpose {
    /// The swarm name inside the topic text.
    pub fn swarm_name(&self) -> String {
        match self {
            Self::Channel(name) => format!("lookup:{name}"),
            Self::Transfer(node) => format!("file-transfer:{node}"),
        }
    }

    /// The topic under which hyperswarm announces and looks up.
    pub fn topic(&self, protocol: Protocol) -> Topic {
        let mut text = Vec::with_capacity(160);
        text.extend_from_slice(b"{\"protocolVersion\":");
        json::write_string(protocol.name().as_bytes(), &mut text);
        text.extend_from_slice(b",\"swarmName\":");
        json::write_string(self.swarm_name().as_bytes(), &mut text);
        text.push(b'}');
        Topic(Sha256::digest(&text).into())
    }

    /// The styles that peers of this swarm may have. In the transfer swarm of a node only its own style makes sense:
    /// a request must name the node as it names itself, and answers must verify.
    pub(crate) fn allows(&self, protocol: Protocol, style: Style) -> bool {
        match self {
            Self::Channel(_) => protocol.dialect(style).is_some(),
            Self::Transfer(node) => node.style == style,
        }
    }

    /// The style to speak when nothing tells which one the peer has.
    pub(crate) fn default_style(&self) -> Style {
        match self {
            Self::Channel(_) => Style::Spki,
            Self::Transfer(node) => node.style,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn topics_are_those_of_the_originals() {
        let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/interop-tests/vectors/v2/topics.json"));
        let vectors: Value = serde_json::from_str(file).unwrap();
        let mut seen = 0;
        for vector in vectors["vectors"].as_array().unwrap() {
            let protocol = Protocol::ALL
                .into_iter()
                .find(|p| p.name() == vector["protocolVersion"])
                .expect("known protocol");
            let name = vector["swarmName"].as_str().unwrap();
            let purpose = match name.strip_prefix("lookup:") {
                Some(channel) => Purpose::Channel(channel.to_owned()),
                None => Purpose::Transfer(name.strip_prefix("file-transfer:").unwrap().parse().unwrap()),
            };
            assert_eq!(purpose.topic(protocol).to_string(), vector["topic"].as_str().unwrap(), "{name}");
            seen += 1;
        }
        assert!(seen >= 16, "only {seen} vectors");
    }
}
