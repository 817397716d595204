"""The contract as others read it: JSON Schemas and an AsyncAPI document, made from the topics and Structs."""
