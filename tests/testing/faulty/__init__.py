"""Parts with one fault each: what the conformance kit must notice. With the fault "" each part is as it should be."""
