#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <stdlib.h>

#include <CUnit/Basic.h>

/* The end of every unit test: run the suites, say what failed. */
static inline int unit_run(CU_SuiteInfo *suites)
{
	unsigned failures;

	if (CU_initialize_registry() || CU_register_suites(suites))
		return EXIT_FAILURE;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failures = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
