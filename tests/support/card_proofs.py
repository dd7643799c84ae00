"""What the cards of a family always say: the test that would fail if it were false, or the remark that it is advice."""
# ruff: noqa: E501

from __future__ import annotations

ADVICE = "advice"
"""A definition, or a caution about data that nobody has measured: it claims nothing about the model."""

PROOFS: dict[str, list[tuple[tuple[str, ...], str]]] = {
    "base": [
        (("`zoo card` renders it again.",), "card/test_card.py::test_rendering_again_gives_the_same_bytes"),
        (("Licence",), "card/test_statements.py::test_a_statement_is_there_only_if_it_is_true"),
        (
            ("With zoo (the Python package `embedding-zoo`",),
            "card/test_statements.py::test_the_package_has_the_name_that_cards_give",
        ),
        (("- It takes over the biases of",), ADVICE),
        (("Speed and memory belong to that machine and those inputs.",), ADVICE),
        (("Another processor, thread count or library version can change the last digits.",), ADVICE),
        (("other domains, lengths and tasks can behave differently.",), ADVICE),
        (("- Each figure is one measurement, without an interval:", "small differences may be noise."), ADVICE),
        (("Evaluate it on data like yours before you rely on it.",), ADVICE),
        (
            (", higher is better",),
            "metrics/test_infomec.py::test_an_ideal_code_scores_1_also_with_renamed_values_in_another_order_and_beside_an_inactive_latent",
        ),
    ],
    "binary-pv": [
        (
            (
                "A document encoder whose vectors are binary codes, learned from raw text alone and compared by Hamming distance.",
            ),
            "families/binary_pv/test_binary_pv.py::test_a_recipe_trains_an_encoder_scores_its_codes_and_writes_the_card",
        ),
        (
            ("Codes are packed, eight bits a byte.",),
            "families/binary_pv/test_binary_pv.py::test_hamming_distance_of_packed_bits_equals_that_of_unpacked_bits",
        ),
        (
            ("They can be searched as they are, here with faiss (the extra `faiss`):",),
            "families/binary_pv/test_binary_pv.py::test_faiss_finds_the_same_distances_as_hamming",
        ),
        (
            ("A text starts as the mean of its words' vectors, rare words counting more",),
            "paragraph_vectors/test_code_layer.py::test_word_means_are_weighted_sums_of_unit_vectors_and_zero_without_words",
        ),
        (
            (", and as the signs of that on axes turned so that rounding loses least.",),
            "paragraph_vectors/test_kernels.py::test_a_rotation_loses_less_by_rounding_than_the_axes_it_starts_from",
        ),
        (
            ("From there the code is trained to predict the words of its text:",),
            "paragraph_vectors/test_kernels.py::test_a_compiled_step_is_the_gradient_that_autograd_finds",
        ),
        (
            ("rounding passes its gradient on as if it were not there (see Citation, where codes start at random).",),
            "paragraph_vectors/test_kernels.py::test_rounding_passes_the_gradient_of_the_sigmoid",
        ),
        (
            ("A text that was not in the training gets its code by the same steps with the words frozen.",),
            "paragraph_vectors/test_paragraph_vectors.py::test_a_settled_training_text_has_the_vector_that_is_inferred_for_it",
        ),
        (
            ("- A word that was not in the training texts tells it nothing;",),
            "paragraph_vectors/test_vocabulary.py::test_words_are_ordered_by_count_and_unknown_words_are_skipped",
        ),
        (
            ("a text without a known word has a code of zeros.",),
            "paragraph_vectors/test_paragraph_vectors.py::test_a_text_without_a_known_word_gets_zeros_and_no_texts_give_an_empty_array",
        ),
    ],
    "equiangular": [
        (
            ("Embeds", "as unit vectors, and predicts their class", "`predict` returns the class of each input, its"),
            "families/equiangular/test_new_classes.py::test_predict_agrees_with_encode_and_the_basis",
        ),
        (("Classes",), "families/equiangular/test_new_classes.py::test_new_classes_are_recognised_and_old_ones_stay"),
        (
            (", and a probability.",),
            "families/equiangular/test_equiangular.py::test_the_softmax_head_classifies_the_features_of_the_same_backbone",
        ),
        (("- An input that belongs to none of the classes may still get one.",), ADVICE),
    ],
    "latent-quantized": [
        (
            ("Latents", "Bits a vector can tell"),
            "families/latent_quantized/test_latent_quantized.py::test_other_kinds_of_latents_share_the_networks_and_the_interface",
        ),
        (
            ("What one latent changes, the others left as they are:",),
            "families/latent_quantized/test_latent_quantized.py::"
            "test_a_traversal_changes_one_latent_through_its_scalars_in_ascending_order",
        ),
        (
            (
                "- Without labels nothing makes sure that a latent means what a person has a word for;",
                "look at the traversal and the NMI.",
            ),
            ADVICE,
        ),
    ],
    "lbl2vec": [
        (
            (
                "Finds documents by topic, and the topic of a document, from a few keywords a topic;",
                "no labelled document was needed.",
            ),
            "families/lbl2vec/test_lbl2vec.py::test_paper_in_miniature_keywords_find_their_topic",
        ),
        (
            ("Topics",),
            "families/lbl2vec/test_lbl2vec.py::"
            "test_the_card_shows_topics_their_map_and_as_many_example_documents_as_the_recipe_says",
        ),
        (
            ("The topic of a document, and the documents of a topic:",),
            "families/lbl2vec/test_lbl2vec.py::test_classify_and_documents_agree",
        ),
        (
            (
                "A text that is exactly the name of a topic is encoded as that topic, so any vector search finds its documents.",
            ),
            "families/lbl2vec/test_lbl2vec.py::"
            "test_a_label_vector_combines_documents_and_keywords_and_the_labels_name_is_encoded_as_it",
        ),
        (
            (
                "Documents alone can be encoded without zoo, as the folder is also a plain sentence-transformers model;",
                "the topics' vectors stand in `topics.safetensors`:",
            ),
            "families/test_families.py::test_stock_sentence_transformers_gives_the_same_vectors",
        ),
        (
            (
                "Each topic is where the documents most similar to its keywords",
                ", after Schopf et al.",
                "(see Citation).",
            ),
            "families/lbl2vec/test_lbl2vec.py::test_the_documents_of_a_label_are_the_nearest_within_the_limits",
        ),
        (
            ("Confidence is a softmax over the cosines of a document to all topics.",),
            "families/lbl2vec/test_lbl2vec.py::test_confidence_is_a_softmax_at_temperature_a_twentieth",
        ),
        (
            ("- A topic is what its keywords and the training documents make of it.",),
            "families/lbl2vec/test_lbl2vec.py::test_paper_in_miniature_keywords_find_their_topic",
        ),
        (
            ("A document of no topic still gets one.",),
            "families/lbl2vec/test_lbl2vec.py::test_a_confidence_below_reject_below_gives_no_label",
        ),
    ],
    "matryoshka-2d": [
        (
            (
                "A sentence embedding model that can be cut in two directions when it is loaded:",
                "fewer Transformer layers make it faster, fewer dimensions make its vectors smaller.",
            ),
            "families/matryoshka_2d/test_matryoshka_2d.py::test_a_saved_view_equals_the_view_and_holds_no_deeper_layers",
        ),
        (
            ("A cut shares its tensors with the whole model and gives vectors of unit length:",),
            "families/matryoshka_2d/test_matryoshka_2d.py::test_a_view_shares_the_tensors_and_leaves_the_encoder_unchanged",
        ),
        (
            ("It was trained with a prompt before", ", which training on scored pairs did not use."),
            "families/matryoshka_2d/test_matryoshka_2d.py::"
            "test_training_texts_get_the_prompts_of_the_backbone_or_of_the_recipe",
        ),
        (
            (
                "Every layer has a linear head.",
                "Before training, the heads are fitted in closed form (ridge regression)",
            ),
            "text/test_heads.py::test_a_shallow_head_is_the_ridge_regression_to_the_rotated_embeddings",
        ),
        (
            ("Each step then trains the whole model and its cuts with the same sentence loss and draws the shallow",),
            "families/matryoshka_2d/test_objectives.py::"
            "test_in_the_elastic_objective_a_shallow_layer_follows_the_last_one_without_pulling_it_along",
        ),
        (
            ("Each step trains the whole model and its cuts with the same sentence loss",),
            "families/matryoshka_2d/test_objectives.py::test_the_objective_is_the_papers_sum_with_one_width_for_both_layers",
        ),
        (
            (
                "- A model trained for one size alone can be better at that size than a cut of this one;",
                "compare before you ship a cut.",
            ),
            ADVICE,
        ),
    ],
    "sesa": [
        (
            ("A search in an inverted index reads only the lists of the query's own components:",),
            "families/sesa/test_sesa.py::test_the_index_finds_what_the_whole_matrix_ranks_first",
        ),
        (
            ("The", "is also a plain sentence-transformers model, without the concepts."),
            "families/sesa/test_sesa.py::test_a_backbone_is_saved_so_that_sentence_transformers_opens_it",
        ),
        (
            ("Every score comes with its explanation.",),
            "families/sesa/test_sesa.py::test_contributions_sum_to_the_score_and_deleting_a_concept_removes_its_contribution",
        ),
        (
            ("A parent concept is never less active than its children.",),
            "families/sesa/test_sesa.py::test_vectors_are_sparse_unit_vectors_and_no_parent_is_below_its_child",
        ),
        (
            ("A text without tags counts for the ranking alone.",),
            "families/sesa/test_sesa_space.py::test_a_row_without_tags_gets_no_gradient",
        ),
        (
            ("No training text was tagged with", "The model knows only their names:"),
            "families/sesa/test_sesa.py::test_a_concept_without_tagged_texts_is_recognised_by_its_name",
        ),
        (
            ("Precision is the share of texts that are tagged with a concept",),
            "families/sesa/test_sesa_space.py::test_precision_is_the_share_of_tagged_texts_among_those_that_a_concept_leads",
        ),
        (
            ("The opaque baseline has the same towers and as many components",),
            "families/sesa/test_sesa.py::test_a_recipe_trains_the_opaque_baseline_too_and_the_card_shows_the_measurements",
        ),
    ],
    "static": [
        (
            ("A static embedding model:", "every token has one vector, and a text is the mean of its tokens."),
            "families/static/test_static.py::test_a_text_is_the_mean_of_its_token_vectors_normalised",
        ),
        (
            ("No network runs, and it opens without torch.",),
            "families/static/test_static.py::test_opening_and_encoding_import_no_torch",
        ),
        (
            ("Every token of the vocabulary runs through the backbone alone.",),
            "families/static/test_static.py::test_a_token_vector_is_what_the_backbone_gives_the_token_as_a_text",
        ),
        (
            ("The resulting vectors are projected on their principal components",),
            "families/static/test_static.py::test_a_table_is_the_projection_times_the_weights_and_zeros_for_special_tokens",
        ),
        (
            ("They are then fitted, by ridge regression, to the backbone's own vectors of",),
            "families/static/test_static.py::test_the_regression_equals_the_solution_of_the_normal_equations",
        ),
        (
            ("A view keeps the first components, and gives vectors of unit length:",),
            "families/static/test_static.py::test_a_view_is_the_first_components_renormalised",
        ),
        (
            (
                "- The order of words does not matter to it:",
                '"dog bites man" and "man bites dog" have the same vector.',
                "- A token has one vector, whatever its neighbours make it mean.",
            ),
            "families/static/test_static.py::test_a_text_is_the_mean_of_its_token_vectors_normalised",
        ),
    ],
    "vlm2vec": [
        (
            (
                "Embeds texts, images and any mix of both as unit vectors in one space.",
                "An instruction says what to look for.",
            ),
            "families/vlm2vec/test_vlm2vec.py::test_the_order_of_images_and_the_instruction_change_the_vector",
        ),
        (
            (
                "An input is a text, an image (PIL image, array, `Path`, bytes), both, or a list of texts and images in reading order.",
            ),
            "families/vlm2vec/test_vlm2vec.py::test_the_same_image_has_the_same_vector_in_every_form",
        ),
        (
            ("The instruction is part of the view.",),
            "families/vlm2vec/test_vlm2vec.py::test_a_view_may_replace_the_instructions_of_queries_and_documents",
        ),
        (
            (
                "Use the instruction that such inputs had in training, even if they are now on the other side of the search:",
            ),
            ADVICE,
        ),
        (
            ("The folder is also a plain sentence-transformers model, without zoo and without custom code",),
            "families/vlm2vec/test_vlm2vec_backbones.py::"
            "test_sentence_transformers_gives_the_same_vectors_with_and_without_instruction",
        ),
        (
            (
                "The model was trained with InfoNCE on pairs of a query and a matching document, with the other rows of the batch "
                "as negatives (see Citation).",
            ),
            "families/vlm2vec/test_vlm2vec_training.py::"
            "test_infonce_is_the_log_sum_over_unmasked_candidates_minus_the_positive",
        ),
        (
            ("The vector is the normalised state of the last token.",),
            "families/vlm2vec/test_vlm2vec.py::test_padding_on_either_side_does_not_change_a_vector",
        ),
        (
            ("Training changed a LoRA adapter and no other weights",),
            "families/vlm2vec/test_vlm2vec_backbones.py::"
            "test_only_the_adapter_is_trained_and_a_folder_holds_it_merged_or_alone",
        ),
        (
            (
                "- The model learned the effect of instructions from those in its training data.",
                "A very different instruction may have no effect.",
            ),
            ADVICE,
        ),
    ],
}
