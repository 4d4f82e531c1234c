"""``iconicity collect``: references of concepts from Wikidata and Wikimedia Commons, with what is known of each."""
