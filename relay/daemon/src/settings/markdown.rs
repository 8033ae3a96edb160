//! Turns a Markdown file into its TOML blocks, each at the lines where it stands in the file.

/// Each block fenced as `toml`, with empty lines for everything above it, so that its line numbers are the file's.
pub(crate) fn toml_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, Option<String>)> = None;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let trimmed = line.trim();
        match &mut open {
            Some((fence, block)) => {
                if trimmed.starts_with(fence.as_str()) && trimmed.trim_start_matches(&fence[..1]).is_empty() {
                    blocks.extend(block.take());
                    open = None;
                } else if let Some(block) = block {
                    block.push_str(line);
                }
            }
            None => {
                let mark = if trimmed.starts_with("```") { '`' } else { '~' };
                let length = trimmed.len() - trimmed.trim_start_matches(mark).len();
                if length >= 3 {
                    let language = trimmed[length..].split_whitespace().next().unwrap_or("");
                    let block = (language == "toml").then(|| "\n".repeat(number + 1));
                    open = Some((mark.to_string().repeat(length), block));
                }
            }
        }
    }
    // A fence that nobody closes reaches to the end of the file.
    blocks.extend(open.and_then(|(_, block)| block));
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_line_numbers() {
        let text = "# a\n```toml\nx = 1\n```\n```sh\ny = 2\n```\n- item\n\n  ~~~~toml\n  z = 3\n  ~~~\n  ~~~~\n````toml\nlast";
        let blocks = toml_blocks(text);
        assert_eq!(blocks.len(), 3);
        assert_eq!(blocks[0], "\n\nx = 1\n");
        assert_eq!(blocks[1].lines().nth(10), Some("  z = 3"));
        assert!(blocks[2].ends_with("last"));
    }
}
